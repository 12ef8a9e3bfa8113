"""Cancellations and the ends of sessions: delivered while others go on, and never followed by a start."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from executions_app import tasks
from executions_app.models import Execution
from executions_app.services import submit, sweep
from executions_app.services.loop import loop
from sandbox_platform import processes
from sandbox_platform.queue import Queue
from sessions_app.models import Reason, Session
from sessions_app.services import lifecycle
from tests import executors, workers
from tests.api.client import eventually
from tests.executors import DONE, Executor, refusal

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Executor]]:
    made: list[Executor] = []

    def one(answers: dict[str, bytes]) -> Executor:
        """By verb. What has no answer is taken and never answered, as by an executor that hangs."""

        def behave(request: str, connection: socket.socket) -> None:
            answer = answers.get(request.split()[0])
            if answer is None:
                executor.over.wait(60)
            else:
                connection.sendall(answer)

        executor = Executor(tmp_path / f"{len(made)}.sock", behave)
        made.append(executor)
        return executor

    yield one
    for executor in made:
        executor.close()


def ended(execution: Execution) -> Any:
    """Its error's code, once it has ended."""

    def check() -> Any:
        execution.refresh_from_db()
        return execution.done

    eventually(check)
    return execution.error["error_code"]


def cancelled(session_id: str) -> None:
    for execution in Execution.objects.filter(session_id=session_id):
        submit.cancel(execution)


def terminated(session_id: str) -> None:
    lifecycle.end(session_id, Reason.TERMINATED_BY_CLIENT, "Terminated")


def test_a_sandbox_that_hangs_keeps_no_worker(make: Callable[..., Executor]) -> None:
    """Its session ends, its runs are to be cancelled; what others wait for in the same queue goes on."""
    hung, sound = make({}), make({"POST": DONE})
    session_id = hung.session()
    for _ in range(8):
        hung.execution(session_id)
    other = sound.execution(sound.session())
    lifecycle.end(session_id, Reason.TERMINATED_BY_CLIENT, "Terminated")
    submit.cancel(other)
    began = time.monotonic()
    while workers.run_one(Queue.RUNS):
        pass
    eventually(lambda: sound.asked == [f"POST {other.pk}/cancel"], 5)
    assert time.monotonic() - began < 5, "no cancellation has waited for the one before it"
    eventually(lambda: len(hung.asked) == 8)


def test_one_that_hangs_is_not_asked_again_while_it_is_being_asked(make: Callable[..., Executor]) -> None:
    hung = make({})
    execution = hung.execution(hung.session(), cancel_requested_at="2026-01-06T10:00:00Z")
    sweep.cancel_again()
    eventually(lambda: hung.asked)
    for _ in range(3):
        sweep.cancel_again()
    marker = hung.execution(execution.session_id)
    loop().cancel(marker)
    eventually(lambda: f"POST {marker.pk}/cancel" in hung.asked)
    assert hung.asked.count(f"POST {execution.pk}/cancel") == 1


@pytest.mark.parametrize(("end", "code"), [(cancelled, "Sandbox.ExecCancelled"), (terminated, "Sandbox.SessionEnded")])
def test_who_takes_over_starts_nothing_that_is_to_end(
    make: Callable[..., Executor], end: Callable[[str], None], code: str
) -> None:
    """Its driver died between the lease and the executor."""
    executor = make({"GET": refusal(404, "not_found"), "PUT": refusal(503, "full")})
    session_id = executor.session()
    execution = executor.execution(session_id)
    end(session_id)
    tasks.reattach(execution.pk)
    assert ended(execution) == code
    assert executor.asked[0] == f"GET {execution.pk}"
    assert f"PUT {execution.pk}" not in executor.asked
    assert Session.objects.get(pk=session_id).active_runs == 0


@pytest.mark.parametrize("busy", [(429, "busy"), (503, "full")])
@pytest.mark.parametrize(("end", "code"), [(cancelled, "Sandbox.ExecCancelled"), (terminated, "Sandbox.SessionEnded")])
def test_one_that_is_to_end_while_its_executor_is_full_never_starts(
    make: Callable[..., Executor], end: Callable[[str], None], code: str, busy: tuple[int, str]
) -> None:
    executor = make({"PUT": refusal(*busy), "GET": refusal(404, "not_found")})
    session_id = executor.session()
    execution = executor.execution(session_id, driver=processes.own_id())
    loop().submit(Execution.objects.select_related("session__container").get(pk=execution.pk))
    eventually(lambda: executor.asked)
    end(session_id)
    assert ended(execution) == code
    starts = executor.asked.count(f"PUT {execution.pk}")
    assert f"PUT {execution.pk}" not in executor.asked[starts:]


def test_one_that_its_executor_is_only_about_to_know_is_asked_for_again_at_once(tmp_path: Path) -> None:
    """It was leased, and the cancellation overtook its start. The ticker would come after two seconds."""
    answers = [refusal(404, "not_found"), refusal(404, "not_found"), DONE]

    def behave(request: str, connection: socket.socket) -> None:
        connection.sendall(answers.pop(0))

    with executors.executor(tmp_path / "x.sock", behave) as made:
        execution = made.execution(made.session())
        submit.cancel(execution)
        assert workers.run_one(Queue.RUNS)
        eventually(lambda: not answers)
        assert made.asked == [f"POST {execution.pk}/cancel"] * 3


def test_the_end_of_a_session_is_told_to_its_runs_again_and_again(make: Callable[..., Executor]) -> None:
    """The task that was to cancel them is lost."""
    executor = make({"POST": DONE})
    session_id = executor.session(status="terminated")
    execution = executor.execution(session_id)
    Session.objects.update(ended_at="2026-01-06T10:00:00Z")
    sweep.cancel_again()
    eventually(lambda: executor.asked == [f"POST {execution.pk}/cancel"])
    eventually(lambda: not loop()._cancelling)  # its answer has been read, too: one is under way at a time
    sweep.end_leftovers()
    eventually(lambda: len(executor.asked) == 2)
    assert ended(execution) == "Sandbox.SessionEnded"


def test_one_that_has_just_been_asked_for_is_left_to_its_task(make: Callable[..., Executor]) -> None:
    executor = make({"POST": DONE})
    executor.execution(executor.session(), cancel_requested_at=Now())
    old = executor.execution(executor.session(), cancel_requested_at="2026-01-06T10:00:00Z")
    sweep.cancel_again()
    eventually(lambda: executor.asked == [f"POST {old.pk}/cancel"])
