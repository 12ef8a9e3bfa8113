"""GET /executions/{id}."""

from sandbox_platform import crypto
from tests.api.client import Api
from tests.api.questions import IdQuestions
from tests.factories import ExecutionFactory


class TestCommon(IdQuestions):
    path = "/executions/{execution}"
    methods = {"GET"}
    not_found = "ExecutionNotFound"


def test_it_shows_what_was_submitted_and_how_it_stands(api: Api) -> None:
    execution = ExecutionFactory(
        session__project=api.project, status="completed", exit_code=0, args=["a"], event='{"x": 1e22}', working_directory="sub",
        env_sealed=crypto.seal({"A": "hunter2"}),
    )  # fmt: skip
    answer = api.get(f"/executions/{execution.pk}")
    body = answer.json()
    assert body["execution_id"] == execution.pk
    assert body["session_id"] == execution.session_id
    assert (body["status"], body["exit_code"], body["language"]) == ("completed", 0, "python")
    assert (body["code"], body["args"], body["working_directory"], body["timeout"]) == ("print(1)", ["a"], "sub", 30)
    assert body["event"] == {"x": 1e22}
    assert body["error"] is None
    assert b"hunter2" not in answer.content


def test_the_error_of_an_unknown_id(api: Api) -> None:
    body = api.get("/executions/exec_20260106_nothing1").json()
    assert body["error_detail"] == "Execution 'exec_20260106_nothing1' does not exist"
