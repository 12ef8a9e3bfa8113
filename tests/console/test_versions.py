"""Versions of templates: drafts, builds with a log, publishing what passed, and going back. The builder is a fake, the rows are real."""

from __future__ import annotations

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from runtime.drivers.fake import FakeDriver
from runtime.models import Container, ContainerStatus
from runtime.services import containers, smoke
from sandbox_platform.errors import ApiError
from templates_app import building, curation, services, versions
from templates_app.images.base import BuildFailed, Made
from templates_app.models import BuildStatus, ImageStatus, Template, TemplateBuild, TemplateImage, VersionStatus
from tests.api.client import Api
from tests.factories import NodeFactory, TemplateImageFactory


class FakeBuilder:
    """Makes nothing. `broken` says why, where it is to fail; `during` is called in the midst of a build."""

    broken = ""
    during = None

    def fingerprint(self, recipe, say):
        return "f" * 64

    def find(self, recipe, fingerprint):
        return None

    def build(self, recipe, fingerprint, say):
        say(f"Installing {', '.join(recipe.requirements)}")
        if FakeBuilder.during:
            FakeBuilder.during()
            say("")
        if self.broken:
            raise BuildFailed(self.broken)
        return f"/images/{'-'.join(recipe.requirements) or 'plain'}"

    def describe(self, ref):
        return Made("sha256:abc", 1024, ("numpy==2.0",))


def passes(build, say):
    return [["starts", True, ""]]


def fails(build, say):
    return [["starts", True, ""], ["imports numpy", False, "No module"]]


@pytest.fixture
def template(db, monkeypatch):
    monkeypatch.setitem(services.BUILDERS, "bubblewrap", FakeBuilder)
    monkeypatch.setattr(FakeBuilder, "broken", "")
    monkeypatch.setattr(FakeBuilder, "during", None)
    monkeypatch.setattr(building, "LOOK_EVERY", -1.0)
    NodeFactory()
    template = TemplateImageFactory().template
    versions.record(template)
    return template


def drafted(template, **changes):
    return versions.save_draft(template, {**versions.spec_of(template), **changes}, None)


def built(version, smoke=passes):
    (build,) = building.order(version)
    building.run(build.pk, smoke)
    build.refresh_from_db()
    return build


def test_a_draft_changes_nothing_until_it_is_built_and_published(template):
    version = drafted(template, pre_installed_packages=["numpy"])
    assert (version.number, version.status) == (2, VersionStatus.DRAFT)
    build = built(version)
    assert (build.status, build.digest, build.packages, build.size_bytes) == (
        BuildStatus.SUCCEEDED,
        "sha256:abc",
        ["numpy==2.0"],
        1024,
    )
    assert "Installing numpy" in build.log
    assert Template.objects.get().pre_installed_packages == []
    assert versions.publish(version)
    assert Template.objects.get().pre_installed_packages == ["numpy"]
    assert TemplateImage.objects.get().ref == "/images/numpy"
    assert not versions.publish(version)


def test_what_did_not_pass_its_smoke_test_cannot_be_published(template):
    version = drafted(template, preload=["numpy"])
    build = built(version, fails)
    assert build.status == BuildStatus.FAILED
    assert ["imports numpy", False, "No module"] in build.smoke
    with pytest.raises(ApiError, match="smoke test"):
        versions.publish(version)


def test_rolling_back_publishes_the_earlier_version_again(template):
    first = versions.published(template)
    second = drafted(template, cpu="2")
    built(second)
    versions.publish(second)
    assert versions.publish(first)
    assert Template.objects.get().cpu == "1"
    second.refresh_from_db()
    assert second.status == VersionStatus.RETIRED
    assert [version.number for version in template.versions.filter(status=VersionStatus.PUBLISHED)] == [1]


def test_rolling_back_to_a_version_whose_image_was_removed_has_sessions_wait_for_it(template):
    done = []
    for number in range(services.KEPT + 2):
        done.append(drafted(template, pre_installed_packages=[f"p{number}"]))
        built(done[-1])
        versions.publish(done[-1])
    assert "/images/p0" not in services.kept("bubblewrap")
    OrmQ.objects.all().delete()
    assert versions.publish(done[-2])
    image = TemplateImage.objects.get()
    assert (image.status, image.ref) == (ImageStatus.READY, f"/images/p{services.KEPT}")
    assert versions.publish(done[0])
    image.refresh_from_db()
    assert (image.status, image.ref) == (ImageStatus.PENDING, "")
    ordered = {(func, *ids) for func, _, *ids in (row.args() for row in OrmQ.objects.all())}
    assert ordered == {("templates_app.tasks.prepare_image", template.pk, "bubblewrap")}
    services.prepare(template.pk, "bubblewrap")
    image.refresh_from_db()
    assert (image.status, image.ref) == (ImageStatus.READY, "/images/p0")


def test_a_version_from_before_a_column_came_has_its_default(template):
    first = versions.published(template)
    del first.spec["npm_packages"]
    first.save()
    curation.prepare_everywhere(template)
    assert template.versions.count() == 1, "nothing has changed"
    second = drafted(template, languages=["javascript"], npm_packages=["lodash@4.17.21"])
    built(second)
    versions.publish(second)
    versions.publish(first)
    assert Template.objects.get().npm_packages == []


def test_a_failed_build_says_why(template, monkeypatch):
    monkeypatch.setattr(FakeBuilder, "broken", "There is no numpy==999")
    build = built(drafted(template, cpu="2"))
    assert build.status == BuildStatus.FAILED
    assert "There is no numpy==999" in build.log


def test_a_build_can_be_cancelled_while_it_waits_and_while_it_runs(template, monkeypatch):
    version = drafted(template, cpu="2")
    (build,) = building.order(version)
    assert building.cancel(build)
    building.run(build.pk, passes)
    build.refresh_from_db()
    assert build.status == BuildStatus.CANCELLED
    monkeypatch.setattr(FakeBuilder, "during", lambda: building.cancel(TemplateBuild.objects.order_by("pk").last()))
    again = built(version)
    assert (again.status, again.pk == build.pk) == (BuildStatus.CANCELLED, False)
    assert "Cancelled" in again.log
    assert not building.cancel(again)


def test_a_build_that_is_cancelled_at_its_very_end_is_cancelled_and_cannot_be_published(template, monkeypatch):
    """Whoever was told that it is being cancelled finds it so, even where the builder looked for the last time before."""
    monkeypatch.setattr(building, "LOOK_EVERY", 1e9)
    (build,) = building.order(drafted(template, cpu="2"))

    def cancelled_meanwhile(row, say):
        assert building.cancel(row)
        return passes(row, say)

    building.run(build.pk, cancelled_meanwhile)
    build.refresh_from_db()
    assert build.status == BuildStatus.CANCELLED
    with pytest.raises(ApiError, match="smoke test"):
        versions.publish(build.version)


def test_a_smoke_test_that_is_cancelled_leaves_no_sandbox_behind(template, monkeypatch):
    monkeypatch.setattr(containers, "driver_for", lambda container: FakeDriver())
    (build,) = building.order(drafted(template, cpu="2"))

    def cancelled(line):
        raise building.Cancelled

    with pytest.raises(building.Cancelled):
        smoke.test(build, cancelled)
    assert not Container.objects.exclude(status=ContainerStatus.REMOVED).exists()


def test_a_build_whose_process_died_has_failed(template):
    build = TemplateBuild.objects.create(version=versions.published(template), runtime_type="bubblewrap", status=BuildStatus.BUILDING,
                                         builder="00000000-0000-0000-0000-000000000000", started_at=timezone.now())  # fmt: skip
    building.bury_the_dead()
    build.refresh_from_db()
    assert build.status == BuildStatus.FAILED


def test_changes_through_the_api_are_versions_too(template):
    api = Api(scopes=["templates:write"])
    assert api.patch("/templates/python-basic", {"description": "Other words"}).status_code == 200
    assert api.patch("/templates/python-basic", {"description": "Other words"}).status_code == 200
    assert [version.number for version in template.versions.order_by("number")] == [1, 2]
    assert versions.published(template).spec["description"] == "Other words"


def test_a_template_that_was_never_published_is_not_in_the_api_but_its_id_is_taken(template):
    Template.objects.create(id="secret-plan", name="Plan", image="sandbox/secret-plan", draft=True)
    api = Api(scopes=["templates:write"])
    assert api.get("/templates/secret-plan").status_code == 404
    assert api.post("/templates", {"id": "secret-plan", "name": "Mine"}).status_code == 409
    assert api.post("/sessions", {"template_id": "secret-plan"}).status_code == 404


def test_recording_the_same_again_makes_no_version(template):
    curation.prepare_everywhere(template)
    assert template.versions.count() == 1
