"""GET /executions/{id}/status."""

import threading
import time

import pytest
from django.db import connections

from executions_app.services import ending, finish
from sandbox_platform import wakeups
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdQuestions
from tests.factories import ExecutionFactory, NodeFactory


class TestCommon(IdQuestions):
    path = "/executions/{execution}/status"
    methods = {"GET"}
    not_found = "ExecutionNotFound"


@pytest.mark.parametrize("status", ["pending", "running", "completed", "failed", "timeout"])
def test_it_shows_the_stored_words(api: Api, status: str) -> None:
    execution = ExecutionFactory(session__project=api.project, status=status)
    body = api.get(f"/executions/{execution.pk}/status").json()
    assert set(body) == {"execution_id", "session_id", "status", "created_at", "started_at", "completed_at"}
    assert (body["execution_id"], body["session_id"]) == (execution.pk, execution.session_id)
    assert body["status"] == status
    assert body["created_at"].endswith("Z")
    assert body["completed_at"] is None


@pytest.mark.parametrize("wait", ["-1", "61", "x", "", "1.5", "%00", "1e1", "1&wait=1"])
def test_a_bad_wait_is_400(api: Api, wait: str) -> None:
    execution = ExecutionFactory(session__project=api.project)
    error_of(api.get(f"/executions/{execution.pk}/status?wait={wait}"), 400, "InvalidParameter")


def test_an_unknown_parameter_is_400(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project)
    error_of(api.get(f"/executions/{execution.pk}/status?waits=1"), 400, "InvalidParameter")


def test_an_answer_that_is_not_final_says_when_to_ask_again(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project)
    answer = api.get(f"/executions/{execution.pk}/status?wait=0")
    assert (answer.json()["status"], answer.headers["Retry-After"]) == ("pending", "1")


def test_one_that_is_done_does_not_wait(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project, status="completed")
    answer = api.get(f"/executions/{execution.pk}/status?wait=60")
    assert answer.json()["status"] == "completed"
    assert "Retry-After" not in answer.headers


def test_one_that_is_deleted_meanwhile_is_404(transactional_db: None) -> None:
    NodeFactory()
    api = Api()
    execution = ExecutionFactory(session__project=api.project, session__status="running", status="running")
    answers: list = []

    def ask() -> None:
        try:
            answers.append(api.get(f"/executions/{execution.pk}/status?wait=60"))
        finally:
            connections.close_all()

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: wakeups._exchange().listen(execution.topic).waiters.get(execution.topic))
    execution.delete()
    wakeups.publish(execution.topic)
    asking.join(10)
    error_of(answers[0], 404, "ExecutionNotFound")


def test_others_hear_of_an_end_whose_driver_answers_first(transactional_db: None) -> None:
    NodeFactory()
    api = Api()
    execution = ExecutionFactory(
        session__project=api.project, session__status="running", session__active_runs=1, status="running"
    )
    answered: list[float] = []

    def ask() -> None:
        try:
            assert api.get(f"/executions/{execution.pk}/status?wait=60").json()["status"] == "failed"
            answered.append(time.monotonic())
        finally:
            connections.close_all()

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: wakeups._exchange().listen(execution.topic).waiters.get(execution.topic))
    ended = time.monotonic()
    assert finish.finish(execution, ending.without_result(None, "cancelled"), answered=True)
    asking.join(10)
    assert answered[0] - ended < 1.0, "it looks by itself after 2 s"


def test_the_end_wakes_those_who_wait(transactional_db: None) -> None:
    NodeFactory()
    api = Api()
    execution = ExecutionFactory(session__project=api.project, session__status="running")
    answers: list = []

    def ask() -> None:
        try:
            answers.append(api.get(f"/executions/{execution.pk}/status?wait=60").json())
        finally:
            connections.close_all()

    asking = threading.Thread(target=ask)
    asking.start()
    finish.finish_pending(execution.pk, ending.without_result(None, "cancelled"))
    asking.join(10)
    assert [answer["status"] for answer in answers] == ["failed"]
    assert answers[0]["completed_at"]
