"""A run that waits is begun at once by whoever hears its doorbell, and by the queue where nobody does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ

from executions_app import tasks
from executions_app.models import Execution
from executions_app.services import doorbell, ending, loop, submit
from executions_app.services.finish import finish
from sandbox_platform import wakeups
from sandbox_platform.queue import Queue, depth
from sessions_app.models import Session
from tests import workers
from tests.api.client import eventually
from tests.executors import Executor, executor, result
from tests.factories import ExecutionFactory

pytestmark = pytest.mark.django_db(transaction=True)
VALUES = {"language": "python", "code": "print(1)", "event": "{}", "timeout": 30}
Rings = list[tuple[str, int]]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Executor]:
    def behave(request: str, connection: socket.socket) -> None:
        connection.sendall(result())

    with executor(tmp_path / "x.sock", behave) as made:
        yield made


@contextmanager
def followed(answer: Callable[[str, int], Any]) -> Iterator[None]:
    leave = doorbell.follow(answer)
    try:
        yield
    finally:
        leave()


def done(pk: str) -> bool:
    return Execution.objects.filter(pk=pk, status="completed").exists()


def test_whoever_hears_it_begins_the_run_and_leaves_no_task(sandbox: Executor) -> None:
    session = Session.objects.get(pk=sandbox.session())
    with followed(tasks.dispatch):
        waiting = submit.submit_alone(session, VALUES, "")
        eventually(lambda: done(waiting.pk))
        assert depth(Queue.RUNS) == 0


def test_where_nobody_hears_the_queue_begins_it(sandbox: Executor) -> None:
    waiting = submit.submit_alone(Session.objects.get(pk=sandbox.session()), VALUES, "")
    assert workers.run_one(Queue.RUNS)
    eventually(lambda: done(waiting.pk))
    assert depth(Queue.RUNS) == 0


def test_the_next_in_the_session_begins_when_one_ends(sandbox: Executor) -> None:
    session = Session.objects.get(pk=sandbox.session(max_concurrency=1))
    first = sandbox.execution(session.pk)
    with followed(tasks.dispatch):
        waiting = submit.submit_alone(session, VALUES, "")
        eventually(lambda: depth(Queue.RUNS) == 0)  # it was heard, and there was no place
        assert Execution.objects.get(pk=waiting.pk).status == "pending"
        assert finish(first, ending.without_result(None, "cancelled"))
        eventually(lambda: done(waiting.pk))
        assert depth(Queue.RUNS) == 0


def test_it_does_not_ring_for_what_is_rolled_back(sandbox: Executor) -> None:
    session_id = sandbox.session()
    rings: Rings = []
    with followed(lambda *ring: rings.append(ring)):
        with suppress(ZeroDivisionError), transaction.atomic():
            doorbell.ring(session_id)
            raise ZeroDivisionError
        with transaction.atomic():
            doorbell.ring("sess_other")
            time_of_ring = time.monotonic()
        eventually(lambda: rings)
        assert time.monotonic() - time_of_ring < 1.0
    assert [session for session, _ in rings] == ["sess_other"]
    assert depth(Queue.RUNS) == 1


def test_an_answer_that_fails_does_not_keep_it_from_ringing(sandbox: Executor) -> None:
    rings: Rings = []

    def answer(*ring: Any) -> None:
        rings.append(ring)
        raise RuntimeError("no answer")

    with followed(answer):
        for n in range(2):
            doorbell.ring(f"sess_{n}")
        eventually(lambda: len(rings) == 2)
    assert depth(Queue.RUNS) == 2


@pytest.mark.skipif("wakeups.rides()", reason="PostgreSQL keeps what nobody has read")
def test_no_ring_is_lost_while_one_is_answered(sandbox: Executor) -> None:
    """A socket keeps ten datagrams: they are taken from it although the answer to the first takes long."""
    rings: Rings = []
    go_on = threading.Event()

    def answer(*ring: Any) -> None:
        assert go_on.wait(20)
        rings.append(ring)

    with followed(answer):
        for n in range(30):
            with wakeups.Waiter(f"dispatch:sess_x:{n}") as heard:
                doorbell.publish("sess_x", n)
                assert heard.wait(5)
        go_on.set()
        eventually(lambda: len(rings) == 30)
    assert [task for _, task in rings] == list(range(30))


def test_a_ring_for_a_session_that_is_gone_takes_its_task_away(sandbox: Executor) -> None:
    with followed(tasks.dispatch):
        doorbell.ring("sess_gone")
        eventually(lambda: depth(Queue.RUNS) == 0)


def test_a_ring_takes_no_task_of_another_queue(sandbox: Executor) -> None:
    other = OrmQ.objects.create(key=str(Queue.BUILDS), payload="", lock=timezone.now())
    tasks.dispatch(sandbox.session(), other.pk)
    assert OrmQ.objects.filter(pk=other.pk).exists()


def test_twice_heard_is_begun_once(sandbox: Executor) -> None:
    session = Session.objects.get(pk=sandbox.session())
    with followed(tasks.dispatch), followed(tasks.dispatch):
        runs = [submit.submit_alone(session, VALUES, "") for _ in range(5)]
        eventually(lambda: all(done(run.pk) for run in runs))
    asked = [request for request in sandbox.asked if request.startswith("PUT")]
    assert sorted(asked) == sorted(f"PUT {run.pk}" for run in runs)
    assert Session.objects.get(pk=session.pk).active_runs == 0


def test_a_place_is_not_taken_for_nobody(sandbox: Executor) -> None:
    """The run that the ring was for has been cancelled."""
    session_id = sandbox.session()
    ExecutionFactory(session_id=session_id, status="failed")
    tasks.dispatch(session_id)
    assert Session.objects.get(pk=session_id).active_runs == 0


def test_who_hears_and_who_has_the_task_drive_by_one_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    both_ask = threading.Barrier(2)
    made: list[object] = []

    class Slow(loop.DriveLoop):
        def __init__(self) -> None:
            made.append(self)
            with suppress(threading.BrokenBarrierError):
                both_ask.wait(0.3)  # so long the other one may come in between
            super().__init__()

    monkeypatch.setattr(loop, "_current", None)
    monkeypatch.setattr(loop, "DriveLoop", Slow)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: loop.loop(), range(2))
    assert first is second and len(made) == 1
