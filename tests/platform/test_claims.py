"""Claiming what waits, beside others who submit, end and cancel at that moment: several connections to PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction
from django_q.models import OrmQ

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import claim, ending, submit
from executions_app.services.ending import Ending
from executions_app.services.finish import finish
from sandbox_platform import processes
from sandbox_platform.queue import Queue, depth
from sessions_app.models import Session
from sessions_app.services import lifecycle
from tests.api.client import eventually
from tests.factories import ExecutionFactory, SessionFactory

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]
VALUES = {"language": "python", "code": "print(1)", "event": "{}", "timeout": 30}
END = ending.without_result(None, "cancelled")
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def blocked(count: int) -> Callable[[], bool]:
    """Whether so many connections wait for a row."""

    def look() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(BLOCKED)
            return bool(cursor.fetchone()[0] == count)

    return look


def beside(act: Callable[[], Any]) -> Future[Any]:
    """Have `act` done by a connection of its own."""

    def work() -> Any:
        try:
            return act()
        finally:
            connection.close()

    with_thread = ThreadPoolExecutor(1)
    future = with_thread.submit(work)
    with_thread.shutdown(wait=False)
    return future


def test_one_that_is_being_cancelled_is_left_alone_and_the_next_one_taken() -> None:
    session = SessionFactory(running=True)
    cancelled, following = (ExecutionFactory(session=session, number=number) for number in (1, 2))
    processes.own_id()
    with transaction.atomic():
        submit.cancel(cancelled)
        taken = beside(lambda: claim.eldest(session.pk, look=False)).result(20)
    assert taken.pk == following.pk
    assert Execution.objects.get(pk=cancelled.pk).status == ExecutionStatus.FAILED
    assert Session.objects.get(pk=session.pk).active_runs == 1


def test_where_the_only_one_is_being_cancelled_nothing_is_taken() -> None:
    session = SessionFactory(running=True)
    cancelled = ExecutionFactory(session=session)
    processes.own_id()
    with transaction.atomic():
        submit.cancel(cancelled)
        assert beside(lambda: claim.eldest(session.pk, look=False)).result(20) is None
    assert Session.objects.get(pk=session.pk).active_runs == 0


def test_a_claim_and_the_end_of_what_the_claim_before_it_took_do_not_lock_each_other_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It began to wait for the session while that one still waited, and goes on while that one ends."""
    session = SessionFactory(running=True)
    first, second = (ExecutionFactory(session=session, number=number) for number in (1, 2))
    processes.own_id()
    keep, locked, free, free_slot = (*(threading.Event() for _ in range(3)), lifecycle.free_slot)

    def keep_the_session() -> None:
        with transaction.atomic():
            Session.objects.filter(pk=session.pk).update(timeout=301)
            assert keep.wait(20)

    def free_later(session_id: str) -> lifecycle.Freed:
        locked.set()
        assert free.wait(20)
        return free_slot(session_id)

    monkeypatch.setattr(lifecycle, "free_slot", free_later)
    with transaction.atomic():
        taken = claim.eldest(session.pk)
        assert taken is not None and taken.pk == first.pk
        keeping = beside(keep_the_session)
        eventually(blocked(1))
        claiming = beside(lambda: claim.eldest(session.pk))
        eventually(blocked(2))
    artifact = {"path": "a", "size": 1, "change": "created"}
    ends = beside(lambda: finish(taken, Ending(END.status, {**END.values, "artifacts": [artifact]})))
    assert locked.wait(20)
    keep.set()
    keeping.result(20)
    eventually(lambda: claiming.done() or blocked(1)())
    free.set()
    assert claiming.result(20).pk == second.pk
    assert ends.result(20)
    assert Session.objects.get(pk=session.pk).active_runs == 1


def test_a_run_that_is_submitted_while_the_last_slot_is_being_freed_is_rung_for() -> None:
    """Its own doorbell may be answered before the end is committed: no slot is free then, and nobody would ring again."""
    session = SessionFactory(running=True, max_concurrency=1, active_runs=1)
    running = ExecutionFactory(session=session, status="running")
    processes.own_id()
    with transaction.atomic():
        submit.submit_alone(session, VALUES, "")
        OrmQ.objects.all().delete()  # as who heard it, and found no slot
        ends = beside(lambda: finish(running, END))
        eventually(blocked(1))
    assert ends.result(20)
    assert depth(Queue.RUNS) == 1
