"""Taking what waits: the eldest execution of a session, for this process to drive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import reading, target
from executions_app.services.statements import TABLE, WAITING
from runtime.models import Container
from sandbox_platform import direct, processes, wakeups
from sandbox_platform.queue import Queue
from sessions_app.models import Session
from sessions_app.services import lifecycle

DRIVEN = (
    *("id", "number", "project_id", "session_id", "status", "language", "code", "event", "stdin", "args", "env_sealed"),
    *("working_directory", "timeout", "retry_lost", "request_id", "attempt", "takeovers"),
)
OF_RUN = ", ".join(DRIVEN)
# Looks for one that waits: others are only skipped where they are being cancelled at that moment.
TRIES = 5
# Its session's row is locked by then: no two claim at a time. But one that is found may be cancelled meanwhile: its state is asked twice.
TAKE = f"""
    UPDATE {TABLE} SET {{changes}} WHERE status = %s AND id = (
        SELECT id FROM {TABLE} WHERE session_id = %s AND status = %s ORDER BY number LIMIT 1 {{lock}})
"""  # noqa: S608
NOT_LOCKED = "FOR NO KEY UPDATE SKIP LOCKED"
# All of it where a statement may hold several that change rows. A row where the session has a place free, with a run in it or none.
# What it sees may be older than the lock on the session that it waited for, and a run that waits by then may be ending now: its end locks
# the run before the session. So it waits for no run.
CLAIM = f"""
    WITH heard AS (DELETE FROM {OrmQ._meta.db_table} USING {direct.NO_WAIT} WHERE id = %s AND key = '{Queue.RUNS}'),
    place AS (SELECT id FROM {Session._meta.db_table} WHERE {lifecycle.HAS_SLOT} FOR NO KEY UPDATE),
    taken AS ({TAKE} AND EXISTS (SELECT 1 FROM place) RETURNING {OF_RUN}),
    slot AS ({lifecycle.FILL_SLOT} WHERE id = %s AND EXISTS (SELECT 1 FROM taken) RETURNING {", ".join(target.SESSION)})
    SELECT {target.COLUMNS}, {", ".join(f"e.{name}" for name in DRIVEN)}
    FROM place CROSS JOIN {direct.NO_WAIT} LEFT JOIN (taken e CROSS JOIN slot s) ON true
    LEFT JOIN {Container._meta.db_table} c ON c.name = s.container_id
"""  # noqa: S608


def anybody_waits(session_id: str) -> bool:
    """Whether there is something to claim: a look takes no lock on the session's row, which the ends of its runs need."""
    return direct.one(WAITING, [session_id, str(ExecutionStatus.PENDING)]) is not None


def eldest(session_id: str, look: bool = True, task: int | None = None) -> Execution | None:
    """Take the session's eldest waiting execution for this process if a slot is free: it is `running` then.

    Without `look` somebody has just said that one waits: the queue's row `task`, which is done with. If the database server crashes it
    may be `pending` again: the executor knows its id then, and does not start it twice. What a driver does not need of it is deferred.
    """
    for _ in range(TRIES):
        if look and not anybody_waits(session_id):
            return None
        look = True
        row = (_at_once if direct.chains() else _step_by_step)(session_id, task)
        if row is None:
            return None
        if (execution := _of_row(row)) is not None:
            # Not at once: most are over before anybody has asked.
            wakeups.publish_soon(execution.topic)
            return execution
        # It was cancelled in this moment; somebody else may wait.
    return None


def _at_once(session_id: str, task: int | None) -> Sequence[Any] | None:
    assignments, params = _taking(session_id)
    return direct.one(
        CLAIM.format(changes=assignments, lock=NOT_LOCKED),
        [task, *lifecycle.claim_params(session_id), *params, session_id],
    )


def _step_by_step(session_id: str, task: int | None) -> Sequence[Any] | None:
    with transaction.atomic():
        if task is not None:
            OrmQ.objects.filter(pk=task, key=Queue.RUNS).delete()
        if not lifecycle.claim_slot(session_id):
            return None
        assignments, params = _taking(session_id)
        taken = direct.one(f"{TAKE.format(changes=assignments, lock='')} RETURNING id", params)
        if taken is None:
            transaction.set_rollback(True)
            return ()
        return direct.one(f"{reading.with_target(DRIVEN)} WHERE e.id = %s", taken)


def _taking(session_id: str) -> tuple[str, list[Any]]:
    """The changes and parameters of TAKE."""
    changes = {"status": ExecutionStatus.RUNNING, "driver": processes.own_id(), "started_at": timezone.now()}
    assignments, params = direct.changes_of(Execution, changes)
    pending = str(ExecutionStatus.PENDING)
    return assignments, [*params, pending, session_id, pending]


def _of_row(row: Sequence[Any]) -> Execution | None:
    known = dict(zip(DRIVEN, row[-len(DRIVEN) :], strict=True)) if row else {"id": None}
    if known["id"] is None:
        return None
    execution = direct.partial(Execution, known)
    execution.session = target.of_row(row)
    return execution
