"""Writing the end of an execution, once, with all that follows from it, in one transaction."""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from executions_app.models import Execution, ExecutionStatus
from executions_app.services.ending import Ending
from sandbox_platform import direct, metrics, wakeups
from sandbox_platform.bells import CHANNEL, RING
from sandbox_platform.queue import Queue, enqueue
from sessions_app.models import Owed, SessionStatus
from sessions_app.services import debts, lifecycle

TABLE = Execution._meta.db_table
WAITING = f"SELECT 1 FROM {TABLE} WHERE session_id = %s AND status = %s LIMIT 1"  # noqa: S608
STORE = f"""
    WITH done AS (UPDATE {TABLE} SET {{changes}} WHERE id = %s AND status = %s RETURNING 1),
    freed AS ({lifecycle.FREE_SLOT.replace("WHERE", "WHERE EXISTS (SELECT 1 FROM done) AND")})
    SELECT freed.status, freed.closing, EXISTS({WAITING}), {{ring}} FROM freed
"""  # noqa: S608
log = structlog.get_logger(__name__)


def finish(execution: Execution, end: Ending) -> bool:
    """Store the end of a running execution; free its slot and dispatch the session's next one. False if it had ended already."""
    changes = {"status": end.status, "driver": None, "completed_at": timezone.now(), **end.values}
    if direct.chains() and not end.values.get("artifacts"):
        after = _store_by_one_statement(execution, changes)
    else:
        with transaction.atomic():
            after = _store(execution, changes)
            if after and end.values.get("artifacts"):
                debts.owe(execution.session_id, Owed.COPY)
    if after is None:
        return False
    _follow_up(execution, after)
    for name, value in changes.items():
        setattr(execution, name, value)
    metrics.run_seconds.labels(end.status).observe((end.values.get("duration_ms") or 0) / 1000)
    log.info("execution_finished", execution=execution.pk, status=end.status, request_id=execution.request_id)
    return True


class After(NamedTuple):
    """How the session stands then."""

    freed: lifecycle.Freed
    waiting: bool
    rung: bool


def _store(execution: Execution, changes: dict[str, Any]) -> After | None:
    if not direct.update(Execution, execution.pk, changes, "status = %s", [ExecutionStatus.RUNNING]):
        return None
    freed = lifecycle.free_slot(execution.session_id)
    return After(freed, direct.one(WAITING, [execution.session_id, ExecutionStatus.PENDING]) is not None, False)


def _store_by_one_statement(execution: Execution, changes: dict[str, Any]) -> After | None:
    """It does not see a run that was submitted in the same instant; the doorbell of that run finds the slot free."""
    assignments, params = direct.changes_of(Execution, changes)
    ring, rung = (RING, [CHANNEL, execution.topic]) if wakeups.rides() else ("NULL", [])
    params += [execution.pk, ExecutionStatus.RUNNING, *lifecycle.free_params(execution.session_id)]
    params += [execution.session_id, ExecutionStatus.PENDING, *rung]
    row = direct.one(STORE.format(changes=assignments, ring=ring), params)
    return After(lifecycle.Freed(*row[:2]), row[2], bool(rung)) if row else None


def _follow_up(execution: Execution, after: After) -> None:
    """Nothing is lost where this is not reached: the ticker looks for closing sessions and for runs that wait."""
    if after.freed.closing:
        lifecycle.end_if_done(execution.session_id)
    if after.waiting:
        enqueue(Queue.RUNS, "executions_app.tasks.dispatch", execution.session_id)
    if not after.rung:
        wakeups.publish(execution.topic)
    if after.freed.status != SessionStatus.RUNNING:  # somebody gives back what it held, and waits for its runs
        wakeups.publish(f"session:{execution.session_id}")


def finish_pending(pk: str, end: Ending) -> bool:
    """End one that never ran."""
    with transaction.atomic():
        pending = Execution.objects.filter(pk=pk, status=ExecutionStatus.PENDING)
        if not pending.move(end.status, completed_at=Now(), **end.values):
            return False
        wakeups.publish(f"execution:{pk}")
    return True
