"""POST /sessions."""

import re

import pytest

from sandbox_platform.queue import Queue, depth
from sessions_app.models import Session
from tests.api.client import Api, error_of
from tests.factories import TemplateFactory

QUICKSTART = {
    "template_id": "python-basic",
    "timeout": 300,
    "resources": {"cpu": "1", "memory": "512Mi", "disk": "1Gi"},
    "env_vars": {"LOG_LEVEL": "info"},
}


def test_it_answers_as_the_quickstart_says(api: Api) -> None:
    answer = api.post("/sessions", QUICKSTART)

    assert answer.status_code == 201
    body = answer.json()
    assert re.fullmatch(r"sess_[a-z0-9]{16}", body["session_id"])
    assert body["status"] == "creating"
    assert body["template_id"] == "python-basic"
    assert body["runtime_type"] == "bubblewrap"
    assert body["workspace_path"] == f"workspace://sessions/{body['session_id']}/"
    assert body["resources"] == QUICKSTART["resources"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", body["created_at"])
    assert answer.headers["Location"] == f"/api/v1/sessions/{body['session_id']}"
    assert depth(Queue.LIFECYCLE) == 1


def test_everything_but_the_template_has_a_default(api: Api) -> None:
    body = api.post("/sessions", {"template_id": "python-basic", "resources": None, "labels": None}).json()
    assert body["timeout"] == 300
    assert body["max_concurrency"] == 4
    assert body["resources"] == {"cpu": "1", "memory": "512Mi", "disk": "1Gi"}


def test_values_of_env_vars_are_write_only(api: Api) -> None:
    answer = api.post("/sessions", {**QUICKSTART, "env_vars": {"API_SECRET": "hunter2-æ\n"}})
    assert answer.json()["env_vars"] == ["API_SECRET"]
    assert b"hunter2" not in answer.content
    session = Session.objects.get()
    assert b"hunter2" not in bytes(session.env_sealed)
    assert session.env_vars == {"API_SECRET": "hunter2-æ\n"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"template_id": 7}, "template_id"),
        ({"timeout": 59}, "timeout"), ({"timeout": 3601}, "timeout"), ({"timeout": 0}, "timeout"), ({"timeout": -1}, "timeout"),
        ({"timeout": "300"}, "timeout"), ({"timeout": 300.5}, "timeout"), ({"timeout": True}, "timeout"), ({"timeout": []}, "timeout"),
        *[({"resources": {"cpu": cpu}}, "resources.cpu")
          for cpu in ("900", "0", "-1", "1e9", "NaN", "1; rm", "1000m", "0.001", True, [], 1, "4", "0.4", "")],
        *[({"resources": {"memory": memory}}, "resources.memory")
          for memory in ("255Mi", "9Gi", "512", "512MB", "-512Mi", "0.5Gi", "512Mi ", "９Gi")],
        ({"resources": {"disk": "51Gi"}}, "resources.disk"), ({"resources": {"disk": "512Mi"}}, "resources.disk"),
        ({"resources": {"gpu": "1"}}, "resources.gpu"), ({"resources": "1"}, "resources"),
        *[({"env_vars": {name: "x"}}, "env_vars")
          for name in ("LD_PRELOAD", "PATH", "PYTHONPATH", "NODE_OPTIONS", "BASH_ENV", "ENV", "IFS", "GCONV_PATH", "HTTP_PROXY",
                       "DOCKER_HOST", "SANDBOX_EVENT", "", "A=B", "A\0B", "1A", "É")],
        ({"env_vars": {"A": "\0"}}, "env_vars"), ({"env_vars": {"A": "x" * 4097}}, "env_vars"), ({"env_vars": {"A": 1}}, "env_vars"),
        ({"env_vars": {f"A{n}": "x" for n in range(65)}}, "env_vars"),
        ({"env_vars": {f"A{n}": "x" * 4000 for n in range(9)}}, "env_vars"), ({"env_vars": []}, "env_vars"),
        ({"labels": {"a": 1}}, "labels"), ({"labels": {"a": {"b": "c"}}}, "labels"), ({"labels": {"a": "\0"}}, "labels"),
        ({"max_concurrency": 0}, "max_concurrency"), ({"max_concurrency": 17}, "max_concurrency"),
        ({"surprise": 1}, "surprise"),
    ],
)  # fmt: skip
def test_a_bad_value_is_400_and_named(api: Api, change: dict, field: str) -> None:
    body = error_of(api.post("/sessions", {**QUICKSTART, **change}), 400, "InvalidParameter")
    assert field in body["error_detail"]
    assert not Session.objects.exists()


@pytest.mark.parametrize(
    ("name", "amount", "most"), [("cpu", "99", "4"), ("cpu", "4.001", "4"), ("memory", "9000000Gi", "8Gi"), ("disk", "51Gi", "50Gi")]
)  # fmt: skip
def test_what_nobody_may_ask_for_names_the_maximum(api: Api, name: str, amount: str, most: str) -> None:
    body = error_of(api.post("/sessions", {**QUICKSTART, "resources": {name: amount}}), 400, "InvalidParameter")
    assert f'to "{most}"' in body["error_detail"]


def test_what_no_node_could_serve_names_the_maximum(api: Api) -> None:
    body = error_of(api.post("/sessions", {**QUICKSTART, "resources": {"cpu": "4"}}), 400, "InvalidParameter")
    assert "the maximum is 2" in body["error_detail"]


@pytest.mark.parametrize(
    "template_id", ["nope", "../x", "http://evil/x", "registry/evil:tag", "-flag", "python‑basic", "a" * 200]
)
def test_an_unknown_template_is_404(api: Api, template_id: str) -> None:
    error_of(api.post("/sessions", {"template_id": template_id}), 404, "TemplateNotFound")


def test_a_deprecated_template_takes_no_new_sessions(api: Api) -> None:
    from django.utils import timezone

    TemplateFactory(id="old", deprecated_at=timezone.now())
    body = error_of(api.post("/sessions", {"template_id": "old"}), 400, "InvalidParameter")
    assert "deprecated" in body["error_detail"]


def test_the_template_is_required(api: Api) -> None:
    assert "template_id" in error_of(api.post("/sessions", {}), 400, "InvalidParameter")["error_detail"]


def test_no_node_at_all_is_503(api: Api) -> None:
    from runtime.models import Node

    Node.objects.all().delete()
    error_of(api.post("/sessions", QUICKSTART), 503, "RuntimeUnavailable")


@pytest.mark.bubblewrap
def test_prefer_wait_answers_when_it_runs(live: Api) -> None:
    answer = live.post("/sessions", QUICKSTART, headers={"Prefer": "wait=30"})
    body = answer.json()
    assert (answer.status_code, body["status"]) == (201, "running")
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert re.fullmatch(r"[0-9a-f]{12}", body["container_id"])
    assert body["runtime_node"] == "node-01"
    assert body["started_at"] and body["expires_at"] > body["started_at"]
