"""Taking what waits: the eldest execution of a session, for this process to drive."""

from __future__ import annotations

import json

from django.db import transaction
from django.utils import timezone

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import target
from executions_app.services.statements import TABLE, WAITING
from runtime.models import Container
from sandbox_platform import direct, processes, wakeups
from sessions_app.models import Session
from sessions_app.services import lifecycle

DRIVEN = (
    *("id", "number", "project_id", "session_id", "status", "language", "code", "event", "stdin", "args", "env_sealed"),
    *("working_directory", "timeout", "retry_lost", "request_id", "attempt", "takeovers"),
)
LOAD = f"""
    SELECT {target.COLUMNS}, {", ".join(f"e.{name}" for name in DRIVEN)} FROM {TABLE} e
    JOIN {Session._meta.db_table} s ON s.id = e.session_id LEFT JOIN {Container._meta.db_table} c ON c.name = s.container_id
    WHERE e.id = %s
"""  # noqa: S608
# The session's row is locked by then: no two claim at a time. But one that is found may be cancelled meanwhile: its state is asked twice.
TAKE = f"""
    UPDATE {TABLE} SET {{changes}} WHERE status = %s AND id = (
        SELECT id FROM {TABLE} WHERE session_id = %s AND status = %s ORDER BY number LIMIT 1)
    RETURNING id
"""  # noqa: S608


def anybody_waits(session_id: str) -> bool:
    """Whether there is something to claim: a look takes no lock on the session's row, which the ends of its runs need."""
    return direct.one(WAITING, [session_id, str(ExecutionStatus.PENDING)]) is not None


def eldest(session_id: str) -> Execution | None:
    """Take the session's eldest waiting execution for this process if a slot is free: it is `running` then.

    If the database server crashes it may be `pending` again: the executor knows its id then, and does not start it twice. What a driver
    does not need of it is deferred.
    """
    while anybody_waits(session_id):
        with transaction.atomic():
            direct.no_wait()
            if not lifecycle.claim_slot(session_id):
                return None
            if (execution := _take(session_id)) is not None:
                wakeups.publish(execution.topic)
                return execution
            transaction.set_rollback(True)  # it was cancelled in this moment; somebody else may wait
    return None


def _take(session_id: str) -> Execution | None:
    changes = {"status": ExecutionStatus.RUNNING, "driver": processes.own_id(), "started_at": timezone.now()}
    assignments, params = direct.changes_of(Execution, changes)
    pending = str(ExecutionStatus.PENDING)
    taken = direct.one(TAKE.format(changes=assignments), [*params, pending, session_id, pending])
    row = direct.one(LOAD, [taken[0]]) if taken else None
    if row is None:
        return None
    execution = direct.partial(Execution, dict(zip(DRIVEN, row[-len(DRIVEN) :], strict=True)))
    execution.args = json.loads(execution.args)
    execution.session = target.of_row(row)
    return execution
