"""Claiming what waits, beside others who end it: two connections to PostgreSQL."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, transaction

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import claim, submit
from sandbox_platform import processes
from sessions_app.models import Session
from tests.api.client import eventually
from tests.factories import ExecutionFactory, SessionFactory

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE%executions_app_execution%'"


def blocked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(BLOCKED)
        return bool(cursor.fetchone()[0])


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_one_that_is_cancelled_in_that_moment_is_left_alone_and_the_next_one_taken() -> None:
    session = SessionFactory(running=True)
    cancelled, following = (ExecutionFactory(session=session, number=number) for number in (1, 2))
    processes.own_id()
    taken: list[Any] = []

    def take() -> None:
        taken.append(claim.eldest(session.pk))
        connection.close()

    thread = threading.Thread(target=take)
    with transaction.atomic():
        submit.cancel(cancelled)
        thread.start()
        eventually(blocked)
    thread.join(20)
    assert [row.pk for row in taken] == [following.pk]
    assert Execution.objects.get(pk=cancelled.pk).status == ExecutionStatus.FAILED
    assert Session.objects.get(pk=session.pk).active_runs == 1
