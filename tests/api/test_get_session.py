"""GET /sessions/{id}."""

import re

import pytest

from tests.api.client import Api
from tests.api.questions import IdQuestions
from tests.factories import SessionFactory

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"


class TestCommon(IdQuestions):
    path = "/sessions/{session}"
    methods = {"GET", "PATCH", "DELETE"}
    not_found = "SessionNotFound"


def test_one_that_is_being_created_has_null_for_what_does_not_exist_yet(api: Api) -> None:
    session = SessionFactory(project=api.project)
    body = api.get(f"/sessions/{session.pk}").json()
    assert body["status"] == "creating"
    for name in ("runtime_node", "container_id", "started_at", "expires_at", "ended_at", "status_reason"):
        assert body[name] is None, name


def test_the_error_of_an_unknown_id_is_the_quickstarts(api: Api) -> None:
    body = api.get("/sessions/sess_invalid123").json()
    assert body["error_code"] == "Sandbox.SessionNotFound"
    assert body["description"] == "Session not found"
    assert body["error_detail"] == "Session 'sess_invalid123' does not exist or has been terminated"
    assert body["solution"] == "Please check the session_id"


@pytest.mark.parametrize(
    ("status", "reason"), [("terminated", "idle"), ("failed", "container_lost"), ("timeout", "expired")]
)
def test_an_ended_one_says_why(api: Api, status: str, reason: str) -> None:
    session = SessionFactory(project=api.project, status=status, status_reason=reason, status_detail="In words")
    answer = api.get(f"/sessions/{session.pk}")
    assert answer.status_code == 200
    assert answer.json()["status"] == status
    assert answer.json()["status_reason"] == reason
    assert answer.json()["status_detail"] == "In words"


def test_values_of_env_vars_are_never_shown(api: Api) -> None:
    from sandbox_platform import crypto

    session = SessionFactory(project=api.project, env_names=["A"], env_sealed=crypto.seal({"A": "hunter2"}))
    answer = api.get(f"/sessions/{session.pk}")
    assert answer.json()["env_vars"] == ["A"]
    assert b"hunter2" not in answer.content


@pytest.mark.bubblewrap
def test_it_answers_as_the_quickstart_says(live: Api) -> None:
    session_id = live.session(timeout=300, resources={"cpu": "1", "memory": "512Mi", "disk": "1Gi"})
    body = live.get(f"/sessions/{session_id}").json()
    assert body["session_id"] == session_id
    assert body["status"] == "running"
    assert body["template_id"] == "python-basic"
    assert body["runtime_type"] == "bubblewrap"
    assert body["runtime_node"] == "node-01"
    assert re.fullmatch(r"[0-9a-f]{12}", body["container_id"])
    assert body["workspace_path"] == f"workspace://sessions/{session_id}/"
    assert body["resources"] == {"cpu": "1", "memory": "512Mi", "disk": "1Gi"}
    assert body["timeout"] == 300
    for name in ("created_at", "started_at", "expires_at"):
        assert re.fullmatch(TIME, body[name]), name
    assert body["created_at"] <= body["started_at"] < body["expires_at"]
    assert set(body["limits_enforced"]) >= {"cpu", "memory", "disk", "pids"}
    assert body["isolation"]
