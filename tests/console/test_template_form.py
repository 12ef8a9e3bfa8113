"""The form of a template says what is wrong beside the field it is wrong in; YAML goes out and in again, or says which entry is wrong."""

from __future__ import annotations

import pytest
import yaml
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from templates_app import building, curation, exchange, versions
from templates_app.admin import TemplateAdmin
from templates_app.models import Template, VersionStatus
from tests.factories import SessionFactory, TemplateFactory
from tests.rivals import kept_out

ADD, IMPORT = "/admin/templates_app/template/add/", "/admin/templates_app/template/import/"
GOOD = {
    "id": "mine", "name": "Mine", "description": "", "languages": ["python", "javascript"], "pre_installed_packages": "numpy==2.1.0",
    "npm_packages": "lodash@4.17.21\n\n  @turf/turf@^7 ", "preload": "numpy", "base_image": "python:3.11-slim", "image": "", "cpu": "1",
    "memory": "512Mi", "disk": "1Gi", "oci_runtime": "runc", "warm_pool_size": "0", "note": "First",
}  # fmt: skip


def errors(answer) -> dict[str, list[str]]:
    """By field, as the page has them."""
    assert answer.status_code == 200, answer.headers.get("Location")
    return dict(answer.context["adminform"].form.errors)


def test_what_is_right_is_a_draft_with_lists(admin):
    assert admin.post(ADD, GOOD).status_code == 302
    version = versions.latest(Template.objects.get(pk="mine"))
    assert (version.status, version.note) == (VersionStatus.DRAFT, "First")
    assert version.spec["npm_packages"] == ["lodash@4.17.21", "@turf/turf@^7"]
    assert version.spec["pre_installed_packages"] == ["numpy==2.1.0"]
    assert version.spec["image"] == "sandbox/mine"


def test_hosts_are_a_list_and_without_a_proxy_there_is_a_warning(admin):
    answer = admin.post(
        ADD, {**GOOD, "network": "allowlist", "allowed_hosts": "PyPI.org\n\n *.example.com:8443 "}, follow=True
    )
    assert "egress proxy does not run here" in answer.content.decode()
    spec = versions.latest(Template.objects.get(pk="mine")).spec
    assert (spec["network"], spec["allowed_hosts"]) == ("allowlist", ["pypi.org", "*.example.com:8443"])


def test_an_allowlist_needs_hosts(admin):
    found = errors(admin.post(ADD, {**GOOD, "network": "allowlist", "allowed_hosts": " "}))
    assert "at least one host" in found["allowed_hosts"][0]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("id", "Not a slug", "Lower-case letters"),
        ("id", "python-basic", "taken"),
        ("name", "", "required"),
        ("languages", [], "required"),
        ("pre_installed_packages", "numpy\ngit+https://evil/x", "git+https://evil/x"),
        ("pre_installed_packages", "x @ https://evil/x.whl", "URL is not allowed"),
        ("npm_packages", "lodash\nlodash@latest", "lodash@latest"),
        ("npm_packages", "lodash@1\nlodash@2", "more than once: lodash"),
        ("npm_packages", "a" * 301, "Line 1: Ensure this field has no more than 300 characters"),
        ("npm_packages", "\n".join(f"a{n}" for n in range(201)), "no more than 200 elements"),
        ("allowed_hosts", "https://pypi.org", "without a scheme"),
        ("allowed_hosts", "pypi.org\n10.0.0.1", "'10.0.0.1': addresses are not allowed"),
        ("allowed_hosts", "pypi.org\n*.org", "with its domain"),
        ("network", "everything", "not one of the available choices"),
        ("preload", "os; import x", "not a module name"),
        ("image", "python:3.11-slim", "below sandbox/"),
        ("image", "sandbox/base:bookworm", "base of other images"),
        ("base_image", "sandbox/python:3.11-basic", "not lie below sandbox/"),
        ("base_image", "169.254.169.254/x:y --flag", "name of an image"),
        ("cpu", "9", 'must be "0.5" to "4"'),
        ("memory", "1GB", "Mi or Gi"),
        ("disk", "90Gi", 'must be "1Gi" to "50Gi"'),
        ("oci_runtime", "kata", "runc, or runsc"),
        ("warm_pool_size", "-1", "greater than or equal to 0"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(admin, field, value, words):
    found = errors(admin.post(ADD, {**GOOD, field: value}))
    assert list(found) == [field]
    assert words in " ".join(found[field])
    assert not Template.objects.filter(name="Mine").exists()


CHANGE = "/admin/templates_app/template/mine/change/"


def shown(client) -> dict[str, str]:
    """What a change of the form begins with."""
    return {**GOOD, "shown": client.get(CHANGE).context["adminform"].form["shown"].value()}


@pytest.mark.parametrize("built", [False, True])
def test_of_two_curators_at_one_form_the_second_is_told_and_nothing_is_lost(admin, role, built):
    admin.post(ADD, GOOD)
    template, other = Template.objects.get(pk="mine"), role("Template curator")
    if built:
        building.order(versions.latest(template))
    mine, theirs = shown(admin), shown(other)
    assert other.post(CHANGE, {**theirs, "description": "Theirs"}).status_code == 302
    found = errors(admin.post(CHANGE, {**mine, "description": "Mine"}))
    assert "changed by template-curator meanwhile (version 2)" in found["__all__"][0]
    assert versions.latest(template).spec["description"] == "Theirs"
    assert [row.spec["description"] for row in template.versions.order_by("number")] == ["", "Theirs"]
    assert admin.post(CHANGE, {**shown(admin), "description": "Mine"}).status_code == 302
    assert versions.latest(template).spec["description"] == "Mine"


def test_a_draft_that_was_not_built_is_mended_in_place_by_its_author_who_is_told_too(admin):
    admin.post(ADD, GOOD)
    before = shown(admin)
    assert admin.post(CHANGE, {**before, "description": "First"}).status_code == 302
    assert "changed by root meanwhile (version 1)" in errors(admin.post(CHANGE, {**before, "cpu": "2"}))["__all__"][0]
    assert "meanwhile" in errors(admin.post(CHANGE, GOOD))["__all__"][0]
    version = versions.latest(Template.objects.get(pk="mine"))
    assert (version.number, version.spec["description"], version.spec["cpu"]) == (1, "First", "1")


def test_what_a_page_was_made_from_is_in_no_ones_way(admin, role):
    admin.post(ADD, GOOD)
    assert 'class="form-row hidden field-shown"' in admin.get(CHANGE).content.decode()
    assert "field-shown" not in role("Auditor").get(CHANGE).content.decode()


def test_what_came_through_the_api_is_not_overwritten_either(admin):
    admin.post(ADD, GOOD)
    before, template = shown(admin), Template.objects.get(pk="mine")
    template.description = "By the API"
    versions.record(template)
    assert "the API or a file" in errors(admin.post(CHANGE, {**before, "cpu": "2"}))["__all__"][0]


def test_npm_packages_without_javascript_are_refused_beside_their_field(admin):
    found = errors(admin.post(ADD, {**GOOD, "languages": ["python"]}))
    assert found == {"npm_packages": ["npm packages need javascript among the languages"]}


def test_what_goes_out_as_yaml_comes_in_again_unchanged(admin):
    template = TemplateFactory(
        id="other",
        name="Other",
        image="sandbox/other",
        languages=["javascript"],
        npm_packages=["lodash@4.17.21"],
        cpu="2",
    )
    versions.record(template)
    answer = admin.get("/admin/templates_app/template/export.yaml")
    entries = {entry["id"]: entry for entry in yaml.safe_load(answer.content)}
    assert entries["other"]["npm_packages"] == ["lodash@4.17.21"]
    template.npm_packages, template.cpu = [], "1"
    template.save()
    versions.record(template)
    admin.post(IMPORT, {"file": SimpleUploadedFile("t.yaml", answer.content)})
    again = Template.objects.get(pk="other")
    assert (again.npm_packages, again.cpu, again.languages) == (["lodash@4.17.21"], "2", ["javascript"])
    assert versions.published(again).note == "Imported"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not YAML"),
        ("a: 1", "list of templates"),
        ("- id: x\n  name: X\n- id: x\n  name: X", "more than once: x"),
        ("- id: x\n  name: X\n  npm_packages: [lodash]", "Entry 1 (x): npm_packages"),
        ("- id: x\n  name: X\n  languages: [javascript]\n  npm_packages: ['lodash@latest']", "lodash@latest"),
        ("- id: x\n  name: X\n  cpu: '99'", "Entry 1 (x)"),
        ("- id: 2001-99-99\n  name: X\n  surprise: 1", "Entry 1 (2001-99-99): surprise"),
        ("- id: 12\n  name: X", "Entry 1 (its id is no text): id"),
        ("- id: [x]\n  name: X", "Entry 1 (its id is no text): id"),
        ("- {id: x, name: y, 5: z}", "Entry 1 (x): 5 is no name of a field"),
        ("- {id: x, name: y, default_resources: {5: z}}", "Entry 1 (x): default_resources"),
        ("- {[x]: y}", "not YAML"),
        ("- id: x\n  name: X\n  cpu: [1]", "Entry 1 (x): cpu must be an amount"),
        ("- id: x\n  name: X\n  cpu: true", "Entry 1 (x): cpu must be an amount"),
        ("- id: x\n  name: X\n  cpu: " + "9" * 5000, "Entry 1 (x)"),
        ("- id: x\n  name: X\n  warm_pool_size: " + "9" * 5000, "warm_pool_size must be of the type int"),
        ("- id: x\n  name: X\n  warm_pool_size: " + "1:1" * 100_000, "warm_pool_size must be of the type int"),
        ("- id: x\n  name: X\n  warm_pool_size: -1", "Entry 1 (x): warm_pool_size"),
        ("- id: x\n  name: X\n  oci_runtime: kata", "oci_runtime must be runc or runsc"),
        ("- id: x\n  name: X\n  oci_runtime: " + "k" * 33, "Entry 1 (x): oci_runtime"),
        ("[" * 3000, "nested too deeply"),
        ("- &a {id: x, name: X}\n- *a", "an alias (*) is not allowed"),
        ("&a [&b [&c [x, x], *c, *c], *b, *b]", "an alias (*) is not allowed"),
        ("- {id: x, name: X, disk: &a [*a]}", "an alias (*) is not allowed"),
        ("- id: !!int ''\n  name: X", "a tag (!) is not allowed"),
        ("- id: !!timestamp x", "a tag (!) is not allowed"),
        ("- !!python/object:os.system x", "a tag (!) is not allowed"),
        ('- id: x\n  name: "\\ud800"', "not YAML"),
        ('- id: x\n  name: "\\0"', "must not contain NUL"),
        ("- id: x\n  name: .inf\n  description: .nan\n  cpu: .inf", "Entry 1 (x)"),
        ("- id: x\n  name: X\n  image: python:3.11-slim", "Entry 1 (x): image"),
        ("- id: x\n  name: X\n  base_image: sandbox/x", "Entry 1 (x): base_image"),
        ("- name: X", "Entry 1 (without an id)"),
        ("- id: x\n  name: X\n  surprise: 1", "surprise"),
        ("- id: x\n  name: X\n  warm_pool_size: many", "warm_pool_size must be of the type int"),
        ("", "Choose a file or paste some YAML"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_yaml_that_is_wrong_says_where_and_changes_nothing(admin, text, words):
    answer = admin.post(IMPORT, {"text": text})
    assert answer.status_code == 200
    assert words in " ".join(str(error) for found in answer.context["form"].errors.values() for error in found)
    assert Template.objects.count() == 1


@pytest.mark.parametrize(
    ("language", "words"), [("javascript", "console.log"), ("shell", "echo"), ("python", "print(")]
)
def test_a_trial_begins_with_code_in_a_language_of_the_template(admin, language, words):
    Template.objects.filter(pk="python-basic").update(languages=[language])
    form = admin.get("/admin/try/python-basic/").context["form"]
    assert words in form["code"].value()
    assert form["language"].field.choices == [(language, language)]


def test_yaml_says_whether_a_template_is_deprecated(admin):
    template = Template.objects.get(pk="python-basic")
    versions.record(template)
    plain = exchange.dump([template])
    admin.post("/admin/templates_app/template/python-basic/do/deprecate/")
    template.refresh_from_db()
    since, text = template.deprecated_at, exchange.dump([template])
    assert "deprecated: true" in text
    for given, how, moment in [(text, "unchanged", since), (plain, "changed", None), (plain, "unchanged", None)]:
        done = exchange.load(given)
        assert done[how] == ["python-basic"], (given, done)
        template.refresh_from_db()
        assert template.deprecated_at == moment
    assert exchange.load(text)["changed"] == ["python-basic"]
    assert Template.objects.get().deprecated_at is not None
    assert template.versions.count() == 1, "it says the same as before"
    Template.objects.update(deleted_at=since)
    assert exchange.load(plain)["added"] == ["python-basic"]
    assert Template.objects.get().deprecated_at is None


def test_drafts_are_in_no_export_as_an_import_would_publish_them(admin):
    admin.post(ADD, GOOD)
    url, data = "/admin/templates_app/template/", {"action": "export_selected"}
    both = admin.post(url, {**data, "_selected_action": ["mine", "python-basic"]})
    assert [entry["id"] for entry in yaml.safe_load(both.content)] == ["python-basic"]
    none = admin.post(url, {**data, "_selected_action": ["mine"]}, follow=True)
    assert "never published" in none.content.decode()


def test_nobody_changes_a_template_while_it_is_imported(transactional_db, monkeypatch):
    TemplateFactory()
    seen, real = [], versions.spec_of
    rename = Template.objects.filter(pk="python-basic").update

    def spec_of(template):
        seen.append(kept_out(lambda: rename(name="Theirs")))
        return real(template)

    monkeypatch.setattr(exchange.versions, "spec_of", spec_of)
    exchange.load("- id: python-basic\n  name: X")
    assert set(seen) == {True}
    assert Template.objects.get().name == "X"


@pytest.mark.parametrize("bulk", [False, True])
def test_no_session_begins_while_its_template_is_deleted(transactional_db, admin, monkeypatch, bulk):
    seen, real = [], curation.in_use
    deprecate = Template.objects.filter(pk="python-basic").update

    def in_use(template):
        seen.append(kept_out(lambda: deprecate(deprecated_at=timezone.now())))
        return real(template)

    monkeypatch.setattr(curation, "in_use", in_use)
    url = "/admin/templates_app/template/"
    data = {"action": "delete_selected", "_selected_action": ["python-basic"], "post": "yes"}
    admin.post(url if bulk else f"{url}python-basic/delete/", data)
    assert seen[-1]
    assert Template.objects.get().deleted_at is not None


def test_a_template_whose_session_began_meanwhile_is_not_deleted(admin, monkeypatch):
    monkeypatch.setattr(TemplateAdmin, "log_deletions", lambda *args: SessionFactory(running=True))
    assert admin.post("/admin/templates_app/template/python-basic/delete/", {"post": "yes"}).status_code == 403
    assert Template.objects.get().deleted_at is None


def test_a_template_that_is_made_while_it_is_imported_is_left_to_who_made_it(db, monkeypatch):
    real = versions.spec_of

    def spec_of(template):
        TemplateFactory(id=template.pk, name="Theirs")
        return real(template)

    monkeypatch.setattr(exchange.versions, "spec_of", spec_of)
    with pytest.raises(exchange.Unusable, match="mine was made by somebody else"):
        exchange.load("- id: mine\n  name: X")


def test_what_yaml_takes_for_a_date_or_a_strange_number_is_text_and_amounts_may_be_numbers(admin):
    """A template may be called 2001-01-01, and be described by 0x10, 1e5, or 12:30."""
    words = ["2001-01-01", "0x10", "1e5", "12:30", "0o7", "1_000", ".inf", "007", "="]
    for word in words:
        exchange.load(f"- {{id: x, name: {word}, cpu: 0.5, warm_pool_size: 1, figures: yes}}")
        row = Template.objects.get(pk="x")
        assert (row.name, row.cpu, row.warm_pool_size, row.figures) == (word, "0.5", 1, True)
        assert exchange.load(exchange.dump([row]))["unchanged"] == ["x"], word
