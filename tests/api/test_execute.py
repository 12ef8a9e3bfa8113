"""POST /sessions/{id}/execute: what is accepted, and what is answered at once."""

import json
import re

import pytest

from executions_app.models import Execution
from sandbox_platform.queue import Queue, depth
from tests.api.client import Api, error_of
from tests.api.questions import BodyQuestions, IdempotencyQuestions, IdQuestions
from tests.factories import ContainerFactory, ExecutionFactory, SessionFactory

CODE = 'def handler(event):\n    return {"statusCode": 200}'
QUICKSTART = {"code": CODE, "language": "python", "timeout": 30, "event": {"name": "Alice"}}


class TestCommon(BodyQuestions, IdempotencyQuestions, IdQuestions):
    method = "POST"
    path = "/sessions/{session}/execute"
    methods = {"POST"}
    body = QUICKSTART
    other_body = {**QUICKSTART, "event": {"name": "Bob"}}
    not_found = "SessionNotFound"


@pytest.fixture
def session(api: Api) -> str:
    return SessionFactory(project=api.project, status="running", container=ContainerFactory()).pk


def submit(api: Api, session: str, **change: object):
    return api.post(f"/sessions/{session}/execute", {**QUICKSTART, **change})


def test_it_answers_as_the_quickstart_says(api: Api, session: str) -> None:
    answer = submit(api, session)
    assert answer.status_code == 200
    body = answer.json()
    assert re.fullmatch(r"exec_\d{8}_[a-z0-9]{8,}", body["execution_id"])
    assert body["status"] == "submitted"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", body["submitted_at"])
    assert body["session_id"] == session
    assert set(body) == {"execution_id", "status", "submitted_at", "session_id"}
    assert depth(Queue.RUNS) == 1


def test_everything_but_code_and_language_has_a_default(api: Api, session: str) -> None:
    nothing = dict.fromkeys(["timeout", "stdin", "args", "env_vars", "working_directory", "retry_lost"])
    answer = api.post(f"/sessions/{session}/execute", {"code": CODE, "language": "python", **nothing})
    assert answer.status_code == 200, answer.content
    row = Execution.objects.get()
    assert (row.timeout, row.event, row.stdin, row.args, row.env_vars, row.working_directory) == (
        30,
        "{}",
        None,
        [],
        {},
        "",
    )


def test_a_session_that_is_being_created_takes_it(api: Api) -> None:
    session = SessionFactory(project=api.project)
    assert submit(api, session.pk).status_code == 200


@pytest.mark.parametrize(
    "event",
    [None, 0, False, "", [], {}, "\0", {"\0": "a\0b"}, 1e22, -0.0, 1.5, 10**40, "é\U0001f600", [[[1]]], {"a": None}, "</script>"],
    ids=repr,
)  # fmt: skip
def test_an_event_is_kept_as_it_is(api: Api, session: str, event: object) -> None:
    answer = submit(api, session, event=event)
    assert answer.status_code == 200, answer.content
    shown = api.get(f"/executions/{answer.json()['execution_id']}")
    assert repr(shown.json()["event"]) == repr(event)


def test_an_event_of_a_mebibyte_fits_and_a_byte_more_does_not(api: Api, session: str) -> None:
    assert submit(api, session, event="x" * (2**20 - 2)).status_code == 200
    assert "event" in error_of(submit(api, session, event="x" * (2**20 - 1)), 400, "InvalidParameter")["error_detail"]


def test_code_of_a_hundred_kib_fits_and_a_byte_more_does_not(api: Api, session: str) -> None:
    assert submit(api, session, code="é" * (50 * 1024)).status_code == 200
    assert (
        "code" in error_of(submit(api, session, code="é" * (50 * 1024) + "#"), 400, "InvalidParameter")["error_detail"]
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        *[({"code": code}, "code") for code in ("", None, 1, [], "a\0b")],
        *[({"language": language}, "language") for language in ("ruby", "", "Python", None, 1, [], {}, "javascript")],
        *[({"timeout": timeout}, "timeout") for timeout in (0, -1, 3601, "30", "nan", 30.7, 30.0, True, [], 10**30)],
        *[({"stdin": stdin}, "stdin") for stdin in (1, 1.5, True, [], {}, "x" * (2**20 + 1))],
        *[({"args": args}, "args") for args in ("x", {}, [1], [None], [["x"]], ["a\0b"], ["x"] * 257, ["x" * 65000] * 3, True)],
        *[({"env_vars": env}, "env_vars")
          for env in ({"LD_PRELOAD": "x"}, {"PATH": "x"}, {"A": 1}, {"A": None}, {"A B": "x"}, {"A": "\0"}, [], "A=B",
                      {"PYTHONSTARTUP": "x"}, {"SANDBOX_RESULT": "x"}, {"https_proxy": "x"}, {"A": "x" * 4097})],
        *[({"working_directory": path}, "working_directory")
          for path in ("/", "//", "/etc", "..", "a/../..", "/workspace/../etc", "./a", "a//b", "/workspacex", "x" * 1025, "/workspace//a")],
        *[({"working_directory": path}, "working_directory") for path in (1, [], "a\0b")],
        *[({"retry_lost": value}, "retry_lost") for value in (1, "true", [])],
        ({"surprise": 1}, "surprise"), ({"event": json.loads("[" * 300 + "]" * 300)}, "event"),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_a_bad_value_is_400_and_named(api: Api, session: str, change: dict, field: str) -> None:
    body = error_of(submit(api, session, **change), 400, "InvalidParameter")
    assert field in body["error_detail"]
    assert not Execution.objects.exists()


@pytest.mark.parametrize("name", ["code", "language"])
def test_what_is_required_is_named(api: Api, session: str, name: str) -> None:
    body = {key: value for key, value in QUICKSTART.items() if key != name}
    answer = api.post(f"/sessions/{session}/execute", body)
    assert name in error_of(answer, 400, "InvalidParameter")["error_detail"]


@pytest.mark.parametrize("path", ["", "a", "a/b", "/workspace", "/workspace/", "/workspace/a/", "ä b", "a\\b", "a/"])
def test_a_working_directory_lies_in_the_workspace(api: Api, session: str, path: str) -> None:
    assert submit(api, session, working_directory=path).status_code == 200


@pytest.mark.parametrize("status", ["terminated", "failed", "timeout"])
def test_an_ended_session_is_404(api: Api, status: str) -> None:
    session = SessionFactory(project=api.project, status=status)
    error_of(submit(api, session.pk), 404, "SessionNotFound")


def test_a_session_at_its_end_takes_no_more(api: Api) -> None:
    session = SessionFactory(project=api.project, status="running", closing="expired", active_runs=1)
    error_of(submit(api, session.pk), 404, "SessionNotFound")


def test_a_full_queue_is_503_and_nothing_is_enqueued(api: Api, session: str, settings) -> None:
    settings.MAX_PENDING_EXECUTIONS = 2
    for _ in range(2):
        ExecutionFactory(session_id=session, project=api.project)
    body = error_of(submit(api, session), 503, "TooManyRequestsExection")
    assert body["description"] == "No available sandbox"
    assert Execution.objects.count() == 2
    assert depth(Queue.RUNS) == 0


def test_a_repeated_request_gets_its_first_answer_even_after_the_sessions_end(api: Api, session: str) -> None:
    headers = {"Idempotency-Key": "k"}
    first = api.post(f"/sessions/{session}/execute", QUICKSTART, headers=headers)
    api.delete(f"/sessions/{session}")
    again = api.post(f"/sessions/{session}/execute", QUICKSTART, headers=headers)
    assert again.content == first.content
    error_of(
        api.post(f"/sessions/{session}/execute", QUICKSTART, headers={"Idempotency-Key": "l"}), 404, "SessionNotFound"
    )


@pytest.mark.parametrize("prefer", ["wait=61", "wait=999999", "respond-async, wait=100"])
def test_a_wait_that_is_too_long_is_400(api: Api, session: str, prefer: str) -> None:
    answer = api.post(f"/sessions/{session}/execute", QUICKSTART, headers={"Prefer": prefer})
    error_of(answer, 400, "InvalidParameter")


@pytest.mark.parametrize("prefer", ["", "respond-async", "wait", "wait=x", "wait=-1", "return=minimal", "wait=0"])
def test_other_preferences_are_answered_at_once(api: Api, session: str, prefer: str) -> None:
    answer = api.post(f"/sessions/{session}/execute", QUICKSTART, headers={"Prefer": prefer})
    assert (answer.status_code, answer.json()["status"]) == (200, "submitted")


def test_secrets_of_env_vars_are_encrypted_and_shown_nowhere(api: Api, session: str) -> None:
    answer = submit(api, session, env_vars={"KEY": "hunter2"})
    execution_id = answer.json()["execution_id"]
    assert b"hunter2" not in bytes(Execution.objects.get().env_sealed)
    for path in ("", "/status", "/result"):
        assert b"hunter2" not in api.get(f"/executions/{execution_id}{path}").content
