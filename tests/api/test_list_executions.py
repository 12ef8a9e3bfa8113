"""GET /sessions/{id}/executions."""

import pytest

from tests.api.client import Api, error_of
from tests.api.questions import IdQuestions, OwnListQuestions
from tests.factories import ExecutionFactory, SessionFactory


class TestCommon(OwnListQuestions, IdQuestions):
    path = "/sessions/{session}/executions"
    methods = {"GET"}
    plural = "executions"
    not_found = "SessionNotFound"

    def make(self, caller: Api, ids: dict[str, str]) -> str:
        return ExecutionFactory(session_id=ids["session"], project=caller.project).pk


def test_newest_first_and_of_this_session_alone(api: Api) -> None:
    session = SessionFactory(project=api.project, status="terminated")
    made = [ExecutionFactory(session=session).pk for _ in range(3)]
    ExecutionFactory(session__project=api.project)
    body = api.get(f"/sessions/{session.pk}/executions").json()
    assert [item["execution_id"] for item in body["executions"]] == made[::-1]
    assert body["total"] == 3


def test_an_item_uses_the_stored_words(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project, status="completed", exit_code=0)
    (item,) = api.get(f"/sessions/{execution.session_id}/executions").json()["executions"]
    assert item.pop("language") == "python"
    assert item.pop("exit_code") == 0
    assert item == api.get(f"/executions/{execution.pk}/status").json()
    assert item["status"] == "completed"


def test_filters_by_status(api: Api) -> None:
    session = SessionFactory(project=api.project)
    done = ExecutionFactory(session=session, status="completed").pk
    ExecutionFactory(session=session, status="failed")
    body = api.get(f"/sessions/{session.pk}/executions?status=completed").json()
    assert [item["execution_id"] for item in body["executions"]] == [done]
    assert body["total"] == 1


@pytest.mark.parametrize("status", ["success", "", "submitted", "COMPLETED"])
def test_an_unknown_status_is_400(api: Api, status: str) -> None:
    session = SessionFactory(project=api.project)
    error_of(api.get(f"/sessions/{session.pk}/executions?status={status}"), 400, "InvalidParameter")
