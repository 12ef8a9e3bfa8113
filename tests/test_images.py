"""Template images: what goes into them, how their rows move, what is left of a build that failed."""

from __future__ import annotations

import os
import uuid
import zipfile
from pathlib import Path

import pytest
import yaml
from django.utils import timezone

from sandbox_platform.models import Process
from sandbox_platform.queue import Queue, depth
from templates_app import services
from templates_app.images import bootstrap, site, sources, tools
from templates_app.images.base import Bootstrap, BuildFailed, Recipe
from templates_app.images.bubblewrap import BubblewrapBuilder
from templates_app.images.docker import LABEL_FINGERPRINT, DockerBuilder
from templates_app.images.site import Target
from templates_app.models import ImageStatus, Template, TemplateImage
from templates_app.signals import image_ready

BASIC = Recipe("python-basic", "sandbox/test:basic", "python:3.11-slim")


def quiet(line: str) -> None:
    pass


class FakeBuilder:
    """Remembers what it built. `error` is raised by a build."""

    def __init__(self) -> None:
        self.version, self.built, self.error = "a", {}, None

    def __call__(self) -> FakeBuilder:
        return self

    def fingerprint(self, recipe, say):
        return self.version * 64

    def find(self, recipe, fingerprint):
        return self.built.get(fingerprint)

    def build(self, recipe, fingerprint, say):
        say("Building")
        if self.error:
            raise self.error
        self.built[fingerprint] = f"ref-{fingerprint[:4]}"
        return self.built[fingerprint]

    def prune(self, in_use):
        return [ref for ref in self.built.values() if ref not in in_use]


@pytest.fixture
def builder(monkeypatch):
    fake = FakeBuilder()
    monkeypatch.setitem(services.BUILDERS, "fake", fake)
    return fake


@pytest.fixture
def template(db):
    services.load_seeds()
    return Template.objects.get(pk="python-basic")


def prepare():
    return services.prepare("python-basic", "fake")


class TestSeeds:
    def test_three_templates_as_documented_and_only_once(self, db):
        assert services.load_seeds() == ["python-basic", "python-datascience", "nodejs-basic"]
        assert services.load_seeds() == []
        science = Template.objects.get(pk="python-datascience")
        assert science.name == "Python Data Science"
        assert science.default_resources == {"cpu": "2", "memory": "2Gi", "disk": "5Gi"}
        assert science.preload == ["numpy", "pandas", "sklearn"]

    def test_what_an_operator_changed_stays(self, template):
        Template.objects.filter(pk="python-basic").update(memory="1Gi")
        services.load_seeds()
        assert Template.objects.get(pk="python-basic").memory == "1Gi"

    def test_every_seed_validates(self):
        for seed in yaml.safe_load(services.SEEDS.read_text()):
            Template(**seed).full_clean(validate_unique=False)


class TestPrepare:
    def test_gets_ready_and_tells(self, template, builder):
        told = []

        def listen(sender, template_id, runtime_type, **kwargs):
            told.append((template_id, runtime_type))

        image_ready.connect(listen)
        image = prepare()
        image_ready.disconnect(listen)
        assert (image.status, image.ref, image.attempts, image.detail) == (ImageStatus.READY, "ref-aaaa", 0, "")
        assert told == [("python-basic", "fake")]

    def test_again_does_nothing(self, template, builder):
        prepare()
        builder.error = BuildFailed("must not be asked")
        assert prepare().status == ImageStatus.READY

    @pytest.mark.parametrize("change", ["ingredients", "lost"])
    def test_is_made_anew_when_its_ingredients_change_or_it_is_lost(self, template, builder, change):
        prepare()
        if change == "ingredients":
            builder.version = "b"
        else:
            builder.built.clear()
        image = prepare()
        assert image.ref == f"ref-{builder.version * 4}"
        assert builder.built

    def test_failure_says_why_and_keeps_the_last_good_one(self, template, builder):
        prepare()
        builder.version, builder.error = "b", BuildFailed("no such package: nope")
        image = prepare()
        assert (image.status, image.ref, image.detail) == (ImageStatus.FAILED, "ref-aaaa", "no such package: nope")

    def test_an_unexpected_error_is_a_failure_too(self, template, builder):
        builder.error = ZeroDivisionError("oops")
        assert "ZeroDivisionError" in prepare().detail

    def test_unknown_runtime_and_template(self, template):
        assert services.prepare("nope", "fake") is None
        assert "no images" in services.prepare("python-basic", "nope").detail

    def test_a_living_builder_is_left_alone_and_a_dead_one_replaced(self, template, builder):
        other = Process.objects.create(id=uuid.uuid4(), kind="worker:builds", host="h", pid=1)
        TemplateImage.objects.create(
            template=template, runtime_type="fake", status=ImageStatus.BUILDING, builder=other.pk, attempts=1
        )
        assert prepare().status == ImageStatus.BUILDING
        assert not builder.built
        Process.objects.filter(pk=other.pk).update(dead_at=timezone.now())
        assert prepare().status == ImageStatus.READY


class TestOrders:
    def test_light_templates_come_first(self, template, builder):
        assert services.ensure_images("fake") == ["python-basic", "nodejs-basic", "python-datascience"]
        assert depth(Queue.BUILDS) == 3

    def test_image_for_orders_once(self, template, builder):
        services.image_for(template, "fake")
        services.image_for(template, "fake")
        assert depth(Queue.BUILDS) == 1

    def test_retried_three_times_at_most(self, template, builder):
        builder.error = BuildFailed("no")
        for _ in range(3):
            assert depth(Queue.BUILDS) == 0
            prepare()
        services.retry_due()
        assert depth(Queue.BUILDS) == 0
        TemplateImage.objects.update(attempts=2)
        services.retry_due()
        services.retry_due()  # one waits already
        assert depth(Queue.BUILDS) == 1

    def test_rebuild_starts_counting_anew(self, template, builder):
        builder.error = BuildFailed("no")
        prepare()
        services.rebuild(template)
        image = TemplateImage.objects.get()
        assert (image.status, image.attempts, depth(Queue.BUILDS)) == (ImageStatus.PENDING, 0, 1)

    def test_prune_keeps_what_rows_and_sandboxes_use(self, template, builder):
        prepare()
        builder.version = "b"
        prepare()
        assert services.prune("fake", in_use={"ref-aaaa"}) == []
        assert services.prune("fake", in_use=set()) == ["ref-aaaa"]


class TestBubblewrapImages:
    @pytest.fixture(autouse=True)
    def private_umask(self):
        before = os.umask(0o077)
        yield
        os.umask(before)

    def test_complete_and_readable_by_all_whatever_the_umask(self, tmp_path):
        builder = BubblewrapBuilder(tmp_path)
        fingerprint = builder.fingerprint(BASIC, quiet)
        assert builder.find(BASIC, fingerprint) is None
        folder = Path(builder.build(BASIC, fingerprint, quiet))
        assert folder == tmp_path / f"python-basic-{fingerprint[:12]}"
        assert builder.find(BASIC, fingerprint) == str(folder)
        assert (folder / "executor" / "__main__.py").is_file()
        assert not (folder / "executor" / "README.md").exists()
        assert (folder / "site").is_dir()
        for path in [folder, *folder.rglob("*")]:
            assert path.stat().st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644), path
        assert list((folder / "executor").rglob("*.pyc"))

    def test_a_failed_build_leaves_nothing(self, tmp_path, settings):
        settings.WHEEL_DIR = str(tmp_path / "empty")
        Path(settings.WHEEL_DIR).mkdir()
        builder = BubblewrapBuilder(tmp_path / "images")
        recipe = Recipe("x", "sandbox/test:x", "python:3.11-slim", requirements=("no-such-package-of-ours",))
        with pytest.raises(BuildFailed, match="no-such-package-of-ours"):
            builder.build(recipe, "0" * 64, quiet)
        assert list((tmp_path / "images").iterdir()) == []

    def test_prune_removes_drafts_and_what_is_not_in_use(self, tmp_path):
        for name in (".draft-1", "old-1", "new-1"):
            (tmp_path / name).mkdir()
        assert sorted(BubblewrapBuilder(tmp_path).prune({str(tmp_path / "new-1")})) == [".draft-1", "old-1"]
        assert [path.name for path in tmp_path.iterdir()] == ["new-1"]


class TestSite:
    def wheel(self, folder: Path) -> None:
        """A package with a module and a command, as an index would serve it."""
        folder.mkdir()
        info = "tinypkg-1.0.dist-info"
        with zipfile.ZipFile(folder / "tinypkg-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("tinypkg.py", "VALUE = 42\n")
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinypkg\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntiny = tinypkg:main\n")
            archive.writestr(f"{info}/RECORD", "")

    def test_installs_from_a_folder_of_wheels_without_a_network(self, tmp_path, settings):
        self.wheel(tmp_path / "wheels")
        settings.WHEEL_DIR = str(tmp_path / "wheels")
        recipe = Recipe("x", "sandbox/test:x", "python:3.11-slim", requirements=("tinypkg>=1",))
        said = []
        site.install(recipe, Target("3.12", "x86_64-unknown-linux-gnu"), tmp_path / "site", said.append)
        assert said[0] == "Installing tinypkg>=1"
        assert (tmp_path / "site" / "tinypkg.py").read_text() == "VALUE = 42\n"
        assert not (tmp_path / "site" / "bin").exists(), "commands name this host's Python"

    def test_node_comes_with_javascript(self):
        assert site.requirements(BASIC) == ()
        recipe = Recipe("n", "sandbox/test:n", "python:3.11-slim", languages=("javascript",), requirements=("a",))
        assert site.requirements(recipe) == ("a", site.NODE)

    def test_complaints_carry_no_credentials(self):
        words = tools.last_words("\x1b[31mfailed\x1b[0m to fetch https://user:secret@index.example/simple/")
        assert words == "failed to fetch https://index.example/simple/"


def test_fingerprints_change_with_every_ingredient():
    first = sources.fingerprint(runtime="docker", packages=("a",), base="1")
    assert first == sources.fingerprint(base="1", packages=("a",), runtime="docker")
    others = {
        sources.fingerprint(runtime="bubblewrap", packages=("a",), base="1"),
        sources.fingerprint(runtime="docker", packages=("b",), base="1"),
        sources.fingerprint(runtime="docker", packages=("a",), base="2"),
    }
    assert len(others | {first}) == 4


# One after the other: the same recipe makes the same fingerprint, by which one test would find what another has built.
@pytest.mark.docker
@pytest.mark.xdist_group("docker-images")
class TestDockerImages:
    @pytest.fixture
    def builder(self):
        builder = DockerBuilder()
        names = {str(image.id) for image in builder.client.images.list(filters={"label": "sbx.template=test"})}
        yield builder
        for image in builder.client.images.list(filters={"label": "sbx.template=test"}):
            if str(image.id) not in names:
                builder.client.images.remove(str(image.id), force=True)

    def test_built_without_a_network_and_without_setuid(self, builder, settings):
        recipe = Recipe("test", f"sandbox/test:{uuid.uuid4().hex[:8]}", "no.registry.invalid/nothing:1")
        if not builder._local(bootstrap.IMAGE) and not bootstrap.possible():
            pytest.skip("no base image, and none can be made here")
        fingerprint = builder.fingerprint(recipe, quiet)
        ref = builder.build(recipe, fingerprint, quiet)
        image = builder.client.images.get(ref)
        assert image.labels[LABEL_FINGERPRINT] == fingerprint
        assert builder.find(recipe, fingerprint) == ref
        assert builder.prune(in_use={ref}) == []
        script = "find / -xdev -perm /6000; test -r /opt/sandbox/executor/__main__.py && test -d /opt/sandbox/site && echo fine"
        said = builder.client.containers.run(
            ref, ["-c", script], entrypoint="sh", network_mode="none", user="20001:20000", remove=True, stderr=False
        )
        assert said.decode().splitlines() == ["fine"]
        assert len(builder.prune(in_use=set())) == 1
        assert builder.client.images.get(recipe.image).id == ref, "its other name holds it still"

    def test_a_name_that_is_not_ours_is_given_to_no_image(self, builder):
        """Also for a template that got it before anybody asked."""
        recipe = Recipe("test", f"sbx-foreign/{uuid.uuid4().hex[:8]}:1", "no.registry.invalid/nothing:1")
        if not builder._local(bootstrap.IMAGE) and not bootstrap.possible():
            pytest.skip("no base image, and none can be made here")
        fingerprint = builder.fingerprint(recipe, quiet)
        ref = builder.build(recipe, fingerprint, quiet)
        assert builder.find(recipe, fingerprint) == ref
        assert builder._local(recipe.image) is None

    def test_without_bootstrap_a_base_that_is_nowhere_is_a_clear_failure(self, builder, monkeypatch):
        monkeypatch.setattr(bootstrap, "IMAGE", "sandbox/nothing:here")
        recipe = Recipe("test", "sandbox/test:x", "no.registry.invalid/nothing:1", bootstrap=Bootstrap.NEVER)
        with pytest.raises(BuildFailed, match="build_images --bootstrap"):
            builder.fingerprint(recipe, quiet)


def test_an_engine_that_does_not_answer_is_a_clear_failure():
    with pytest.raises(BuildFailed, match="Docker does not answer"):
        DockerBuilder("unix:///nowhere/docker.sock")
