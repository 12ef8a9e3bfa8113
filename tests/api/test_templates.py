"""/templates and /templates/{id}."""

from typing import Any

import pytest
from django.utils import timezone

from sandbox_platform.queue import Queue, depth
from templates_app import curation, services, versions
from templates_app.models import Template
from templates_app.serializers import TemplateIn
from tests.api.client import Api, error_of
from tests.api.questions import BodyQuestions, IdempotencyQuestions, IdQuestions, ListQuestions, Questions
from tests.factories import SessionFactory, TemplateFactory, TemplateImageFactory
from tests.rivals import kept_out

WRITE = ["templates:write"]
NEW = {"id": "mine", "name": "Mine", "pre_installed_packages": ["numpy>=1.24"], "default_resources": {"cpu": "2"}}


@pytest.fixture
def curator(api: Api) -> Api:
    return Api(scopes=WRITE)


class NeedsScope:
    """Of what changes templates."""

    scopes = WRITE

    def test_without_the_scope_it_is_403(self: Any, api: Api) -> None:
        body = error_of(self.call(api, {"template": "python-basic"}), 403, "Forbidden")
        assert "templates:write" in body["error_detail"]
        assert Template.objects.visible().count() == 1


class TestList(ListQuestions):
    path = "/templates"
    methods = {"GET", "POST"}
    plural = "templates"

    def make(self, caller: Api, ids: dict[str, str]) -> str:
        return TemplateImageFactory(template__id=f"t{Template.objects.count()}").template_id


class TestGet(IdQuestions):
    path = "/templates/{template}"
    methods = {"GET", "PUT", "PATCH", "DELETE"}
    not_found = "TemplateNotFound"


class TestCreate(NeedsScope, BodyQuestions, IdempotencyQuestions, Questions):
    method = "POST"
    path = "/templates"
    methods = {"GET", "POST"}
    body = NEW
    other_body = {**NEW, "name": "Yours"}


class TestReplace(NeedsScope, BodyQuestions, IdQuestions):
    method = "PUT"
    path = "/templates/{template}"
    methods = {"GET", "PUT", "PATCH", "DELETE"}
    body = {"name": "New"}
    not_found = "TemplateNotFound"


class TestUpdate(NeedsScope, BodyQuestions, IdQuestions):
    method = "PATCH"
    path = "/templates/{template}"
    methods = {"GET", "PUT", "PATCH", "DELETE"}
    body = {"name": "New"}
    not_found = "TemplateNotFound"


class TestDelete(NeedsScope, IdQuestions):
    method = "DELETE"
    path = "/templates/{template}"
    methods = {"GET", "PUT", "PATCH", "DELETE"}
    not_found = "TemplateNotFound"


def test_the_seeds_are_as_the_quickstart_says(api: Api) -> None:
    Template.objects.all().delete()
    services.load_seeds()
    body = api.get("/templates?limit=10").json()
    assert body["total"] == 3
    templates = {item["id"]: item for item in body["templates"]}
    assert set(templates) == {"python-basic", "python-datascience", "nodejs-basic"}
    basic = templates["python-basic"]
    assert basic["name"] == "Python Basic Environment"
    assert basic["image"].endswith("sandbox/python:3.11-basic")
    assert basic["default_resources"] == {"cpu": "1", "memory": "512Mi", "disk": "1Gi"}
    assert basic["created_at"].endswith("Z")
    science = api.get("/templates/python-datascience").json()
    assert science == templates["python-datascience"]
    assert science["name"] == "Python Data Science"
    assert science["base_image"] == "python:3.11-slim"
    assert science["pre_installed_packages"][:3] == ["numpy>=1.24.0", "pandas>=2.0.0", "scikit-learn>=1.3.0"]
    assert science["default_resources"] == {"cpu": "2", "memory": "2Gi", "disk": "5Gi"}
    assert "javascript" in templates["nodejs-basic"]["languages"]


def test_create_read_and_delete(curator: Api) -> None:
    answer = curator.post("/templates", NEW)
    assert (answer.status_code, answer.headers["Location"]) == (201, "/api/v1/templates/mine")
    body = answer.json()
    assert body["default_resources"] == {"cpu": "2", "memory": "512Mi", "disk": "1Gi"}
    assert (body["id"], body["image"], body["languages"]) == ("mine", "sandbox/mine", ["python", "shell"])
    assert body["status"] == "preparing"
    assert depth(Queue.BUILDS) >= 1
    assert curator.get("/templates/mine").json() == body
    answer = curator.delete("/templates/mine")
    assert (answer.status_code, answer.content) == (204, b"")
    error_of(curator.get("/templates/mine"), 404, "TemplateNotFound")
    error_of(curator.delete("/templates/mine"), 404, "TemplateNotFound")
    error_of(curator.post("/sessions", {"template_id": "mine"}), 404, "TemplateNotFound")
    assert "mine" not in [item["id"] for item in curator.get("/templates").json()["templates"]]
    assert curator.post("/templates", NEW).status_code == 201


def test_an_id_that_is_taken_is_409(curator: Api) -> None:
    error_of(curator.post("/templates", {"id": "python-basic", "name": "x"}), 409, "Conflict")


def test_patch_changes_what_is_named_and_put_sets_the_rest_back(curator: Api) -> None:
    curator.post("/templates", {**NEW, "description": "Words", "preload": ["numpy"]})
    body = curator.patch("/templates/mine", {"name": "Other", "default_resources": {"memory": "1Gi"}}).json()
    assert (body["name"], body["description"], body["preload"]) == ("Other", "Words", ["numpy"])
    assert body["default_resources"] == {"cpu": "2", "memory": "1Gi", "disk": "1Gi"}
    assert curator.get("/templates/mine").json() == body
    body = curator.put("/templates/mine", {"name": "Third", "id": "mine"}).json()
    assert (body["name"], body["description"], body["preload"], body["pre_installed_packages"]) == ("Third", "", [], [])
    assert body["default_resources"] == {"cpu": "1", "memory": "512Mi", "disk": "1Gi"}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_the_id_can_not_be_changed(curator: Api, method: str) -> None:
    error_of(curator.call(method, "/templates/python-basic", {"id": "other", "name": "x"}), 400, "InvalidParameter")
    assert curator.get("/templates/python-basic").json()["name"] == "Python Basic Environment"


BAD: list[tuple[dict[str, Any], str]] = [
    *[({"id": pk}, "id") for pk in ("", "A", "a_b", "-a", "a-", "a" * 64, "a/b", "a b", "é", 1, None, "a\n")],
    *[({"name": name}, "name") for name in ("", None, 1, "x" * 101, "a\0")],
    *[({"languages": value}, "languages") for value in ([], ["ruby"], "python", [1], ["python"] * 4, [["python"]])],
    *[({"pre_installed_packages": [value]}, "pre_installed_packages")
      for value in ("x @ https://evil/x.whl", "git+https://evil/x", "-r /etc/passwd", "--index-url=x", "../x", "", "a b", "numpy; \0", 1)],
    *[({"npm_packages": [value], "languages": ["javascript"]}, "npm_packages")
      for value in ("x@latest", "x@https://evil/x.tgz", "git+ssh://evil/x", "a/b", "../x", "--registry=x", "x@npm:y@1", "", "a\0", 1)],
    ({"npm_packages": ["a@1", "a@2"], "languages": ["javascript"]}, "npm_packages"),
    ({"npm_packages": ["lodash@4.17.21"], "languages": ["python"]}, "npm_packages"),
    *[({"preload": [value]}, "preload") for value in ("os; import x", "", "a..b", "1a", "a-b", 1)],
    *[({"default_resources": value}, "default_resources") for value in ({"cpu": "9"}, {"memory": "1"}, {"gpu": "1"}, "1", [])],
    *[({"image": value}, "image")
      for value in ("", "python:3.11-slim", "mine", "sandbox/", "sandbox/A", "sandbox/x:y --flag", "sandbox/x y", "sandbox/x:y\n",
                    "sandbox/../x", "sandbox/x@sha256:" + "0" * 64, "docker.io/sandbox/x", "sandbox/base", "sandbox/base:bookworm",
                    "sandbox/x:" + "y" * 129)],
    *[({"base_image": value}, "base_image")
      for value in ("", "169.254.169.254/x:y --flag", "-x", "a b", "x\n", "X", "http://x/y", "x:y:z", "a//b", "x@sha256:0", "sandbox/mine",
                    "sandbox/python:3.11-basic", "docker.io/sandbox/x", "sandbox/base", "sandbox/base:latest")],
    ({"base_image": "x" * 256}, "base_image"), ({"description": "x" * 2001}, "description"),
    ({"oci_runtime": "runsc"}, "oci_runtime"), ({"deprecated": "yes"}, "deprecated"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("image", "sandbox/python:3.11-basic"), ("image", "sandbox/team/a_b--c.d:V1.0"), ("base_image", "python"),
        ("base_image", "registry.local:5000/a/b:1@sha256:" + "0" * 64), ("base_image", "localhost/x"),
        ("base_image", "sandbox/base:bookworm"),
    ],
)  # fmt: skip
def test_names_of_images_are_kept_as_they_are(curator: Api, field: str, name: str) -> None:
    answer = curator.post("/templates", {**NEW, field: name})
    assert (answer.status_code, answer.json()[field]) == (201, name)


def test_a_base_image_is_one_of_those_that_operators_allow(curator: Api, settings: Any) -> None:
    settings.BASE_IMAGES = ["registry.local/ok/", "debian", "ubuntu:24.04"]
    allowed = ["registry.local/ok/x:1", "debian", "debian:bookworm", "ubuntu:24.04", "python:3.11-slim"]
    for name in allowed:
        assert curator.patch("/templates/python-basic", {"base_image": name}).status_code == 200, name
    for name in [
        "registry.local/okay/x",
        "debianx",
        "debian.evil.com/x",
        "ubuntu:24.041",
        "evil/debian",
        "python:3.12",
    ]:
        body = error_of(curator.patch("/templates/python-basic", {"base_image": name}), 400, "InvalidParameter")
        assert "SANDBOX_BASE_IMAGES" in body["error_detail"]


@pytest.mark.parametrize(("change", "field"), BAD, ids=lambda value: repr(value)[:32])
def test_a_bad_value_is_400_and_named(curator: Api, change: dict[str, Any], field: str) -> None:
    body = error_of(curator.post("/templates", {**NEW, **change}), 400, "InvalidParameter")
    assert field in body["error_detail"]
    assert Template.objects.count() == 1


def test_npm_packages_go_with_javascript_also_where_only_one_of_both_changes(curator: Api) -> None:
    spoken = {"languages": ["python", "javascript"], "npm_packages": ["lodash@4.17.21", "@turf/turf@^7"]}
    assert curator.post("/templates", {**NEW, **spoken}).json()["npm_packages"] == spoken["npm_packages"]
    assert curator.patch("/templates/mine", {"npm_packages": ["is-odd@3.0.1"]}).json()["npm_packages"] == [
        "is-odd@3.0.1"
    ]
    body = error_of(curator.patch("/templates/mine", {"languages": ["python"]}), 400, "InvalidParameter")
    assert "npm_packages" in body["error_detail"]
    assert "javascript" in body["error_detail"]
    assert curator.patch("/templates/mine", {"languages": ["python"], "npm_packages": []}).status_code == 200
    error_of(curator.patch("/templates/mine", {"npm_packages": ["lodash"]}), 400, "InvalidParameter")


def test_one_made_where_another_was_deleted_has_nothing_of_it(curator: Api) -> None:
    curator.post("/templates", {**NEW, "languages": ["javascript"], "npm_packages": ["lodash"], "preload": ["numpy"]})
    curator.delete("/templates/mine")
    body = curator.post("/templates", {"id": "mine", "name": "Anew"}).json()
    assert (body["languages"], body["npm_packages"], body["preload"]) == (["python", "shell"], [], [])


def test_one_made_where_another_was_deleted_has_nothing_either_of_what_operators_alone_may_say(curator: Api) -> None:
    curator.post("/templates", NEW)
    hidden = {"oci_runtime": "runsc", "warm_pool_size": 3, "figures": True}
    Template.objects.filter(pk="mine").update(**hidden, deleted_at=timezone.now())
    assert curator.post("/templates", {"id": "mine", "name": "Anew"}).status_code == 201
    assert versions.spec_of(Template.objects.get(pk="mine")) == {**versions.fresh_spec("mine"), "name": "Anew"}


def test_put_leaves_what_operators_alone_may_say(curator: Api) -> None:
    """Else a client would take a template out of gVisor without a word."""
    hidden = {"oci_runtime": "runsc", "warm_pool_size": 3, "figures": True}
    Template.objects.update(**hidden)
    assert curator.put("/templates/python-basic", {"name": "Anew"}).status_code == 200
    assert Template.objects.values(*hidden).get() == hidden


def test_an_id_that_a_draft_has_is_409_and_nobody_is_sent_to_put(curator: Api) -> None:
    TemplateFactory(id="plan", draft=True)
    body = error_of(curator.post("/templates", {"id": "plan", "name": "Mine"}), 409, "Conflict")
    assert "PUT" not in body["solution"]
    assert "another id" in body["solution"]
    error_of(curator.put("/templates/plan", {"name": "Mine"}), 404, "TemplateNotFound")


@pytest.mark.parametrize("status", ["creating", "running"])
def test_deleting_one_in_use_is_409_and_recommends_deprecation(curator: Api, status: str) -> None:
    session = SessionFactory(status=status)
    body = error_of(curator.delete("/templates/python-basic"), 409, "Conflict")
    assert "eprecat" in body["solution"]
    session.move("terminated")
    assert curator.delete("/templates/python-basic").status_code == 204


def test_a_deprecated_one_still_answers_but_takes_no_new_sessions(curator: Api) -> None:
    body = curator.patch("/templates/python-basic", {"deprecated": True}).json()
    assert body["status"] == "deprecated"
    assert curator.get("/templates/python-basic").json() == body
    since = Template.objects.get().deprecated_at
    error_of(curator.post("/sessions", {"template_id": "python-basic"}), 400, "InvalidParameter")
    curator.patch("/templates/python-basic", {"deprecated": True, "name": "x"})
    assert Template.objects.get().deprecated_at == since
    assert curator.patch("/templates/python-basic", {"deprecated": False}).json()["status"] == "ready"
    assert curator.post("/sessions", {"template_id": "python-basic"}).status_code == 201


def test_status_says_how_the_image_stands(api: Api) -> None:
    assert api.get("/templates/python-basic").json()["status"] == "ready"
    TemplateImageFactory(template=TemplateFactory(id="failing"), status="failed", ref="")
    assert api.get("/templates/failing").json()["status"] == "failed"
    TemplateImageFactory(template=TemplateFactory(id="building"), status="building", ref="")
    assert api.get("/templates/building").json()["status"] == "preparing"
    TemplateFactory(id="old", deprecated_at=timezone.now())
    assert api.get("/templates/old").json()["status"] == "deprecated"


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"name": "Mine"}), ("PUT", {"name": "Mine"}), ("DELETE", None)])
def test_nobody_changes_a_template_between_its_reading_and_its_writing(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, method: str, body: Any
) -> None:
    """Else what they did (to publish, to deprecate, to delete it) would be undone, or a session begun of one that is being deleted."""
    TemplateImageFactory()
    seen: list[bool] = []

    def deprecate() -> None:
        Template.objects.filter(pk="python-basic").update(deprecated_at=timezone.now())

    def at_work(real: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            seen.append(kept_out(deprecate))
            return real(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(TemplateIn, "is_valid", at_work(TemplateIn.is_valid))
    monkeypatch.setattr(curation, "in_use", at_work(curation.in_use))
    assert Api(scopes=WRITE).call(method, "/templates/python-basic", body).status_code in (200, 204)
    assert seen == [True]


def test_of_two_who_make_the_same_template_one_is_told(curator: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    real = versions.fresh_spec

    def fresh_spec(pk: str) -> dict[str, Any]:
        TemplateFactory(id=pk, name="Theirs")
        return real(pk)

    monkeypatch.setattr(versions, "fresh_spec", fresh_spec)
    error_of(curator.post("/templates", NEW), 409, "Conflict")
