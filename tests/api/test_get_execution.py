"""GET /executions/{id}."""

from typing import Any

from sandbox_platform import crypto
from tests.api.client import Api
from tests.api.questions import IdQuestions
from tests.api.test_execution_result import KEYS
from tests.factories import ExecutionFactory


class TestCommon(IdQuestions):
    path = "/executions/{execution}"
    methods = {"GET"}
    not_found = "ExecutionNotFound"


def test_it_shows_what_was_submitted_and_how_it_stands(api: Api) -> None:
    execution = ExecutionFactory(
        session__project=api.project, status="completed", exit_code=0, args=["a"], event='{"x": 1e22}', working_directory="sub",
        env_sealed=crypto.seal({"B": "hunter2", "A": "hunter2"}), stdin="é\0".encode(),
    )  # fmt: skip
    answer = api.get(f"/executions/{execution.pk}")
    body = answer.json()
    assert body["execution_id"] == execution.pk
    assert body["session_id"] == execution.session_id
    assert (body["status"], body["exit_code"], body["language"]) == ("completed", 0, "python")
    assert (body["code"], body["args"], body["working_directory"], body["timeout"]) == ("print(1)", ["a"], "sub", 30)
    assert body["event"] == {"x": 1e22}
    assert (body["stdin"], body["env_vars"]) == ("é\0", ["A", "B"])
    assert body["error"] is None
    assert b"hunter2" not in answer.content


def test_it_is_all_of_it(api: Api) -> None:
    execution = ExecutionFactory(
        session__project=api.project, status="completed", stdout=b"out", stderr=b"err", stdout_omitted=7, exit_code=0, duration_ms=75.23,
        cpu_time_ms=68.12, peak_memory_mb=42.5, return_value='{"a":1e22}', artifacts=[{"path": "a.csv", "size": 1, "change": "created"}],
    )  # fmt: skip
    answer = api.get(f"/executions/{execution.pk}")
    result = api.get(f"/executions/{execution.pk}/result").json()
    body = answer.json()
    # The one word that differs: here it is the stored one.
    assert (body["status"], result["status"]) == ("completed", "success")
    assert {name: body[name] for name in KEYS - {"status"}} == {name: result[name] for name in KEYS - {"status"}}
    assert set(body) == KEYS | {
        "session_id", "created_at", "started_at", "completed_at", "language", "code", "event", "stdin", "args", "env_vars",
        "working_directory", "timeout", "retry_lost",
    }  # fmt: skip
    assert b'"return_value":{"a":1e22},' in answer.content


def test_it_is_shown_though_its_env_names_cannot_be_read_any_more(api: Api, settings: Any) -> None:
    execution = ExecutionFactory(session__project=api.project, env_sealed=crypto.seal({"A": "1"}))
    settings.SECRET_KEY = "another" * 8
    answer = api.get(f"/executions/{execution.pk}")
    assert (answer.status_code, answer.json()["env_vars"]) == (200, None)


def test_the_error_of_an_unknown_id(api: Api) -> None:
    body = api.get("/executions/exec_20260106_nothing1").json()
    assert body["error_detail"] == "Execution 'exec_20260106_nothing1' does not exist"
