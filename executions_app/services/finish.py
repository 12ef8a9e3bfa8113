"""Writing the end of an execution, once, with all that follows from it, in one transaction."""

from __future__ import annotations

import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from executions_app.models import Execution, ExecutionStatus
from executions_app.services.ending import Ending
from sandbox_platform import direct, metrics, wakeups
from sandbox_platform.queue import Queue, enqueue
from sessions_app.models import Owed, SessionStatus
from sessions_app.services import debts, lifecycle

WAITING = f"SELECT 1 FROM {Execution._meta.db_table} WHERE session_id = %s AND status = %s LIMIT 1"  # noqa: S608
log = structlog.get_logger(__name__)


def finish(execution: Execution, end: Ending) -> bool:
    """Store the end of a running execution; free its slot and dispatch the session's next one. False if it had ended already."""
    with transaction.atomic():
        changes = {"status": end.status, "driver": None, "completed_at": timezone.now(), **end.values}
        if not direct.update(Execution, execution.pk, changes, "status = %s", [ExecutionStatus.RUNNING]):
            return False
        freed = lifecycle.free_slot(execution.session_id)
        if end.values.get("artifacts"):
            debts.owe(execution.session_id, Owed.COPY)
        if freed.closing:
            lifecycle.end_if_done(execution.session_id)
        if direct.one(WAITING, [execution.session_id, ExecutionStatus.PENDING]):
            enqueue(Queue.RUNS, "executions_app.tasks.dispatch", execution.session_id)
        wakeups.publish(execution.topic)
        if freed.status != SessionStatus.RUNNING:  # somebody gives back what it held, and waits for its runs
            wakeups.publish(f"session:{execution.session_id}")
    for name, value in changes.items():
        setattr(execution, name, value)
    metrics.run_seconds.labels(end.status).observe((end.values.get("duration_ms") or 0) / 1000)
    log.info("execution_finished", execution=execution.pk, status=end.status, request_id=execution.request_id)
    return True


def finish_pending(pk: str, end: Ending) -> bool:
    """End one that never ran."""
    with transaction.atomic():
        pending = Execution.objects.filter(pk=pk, status=ExecutionStatus.PENDING)
        if not pending.move(end.status, completed_at=Now(), **end.values):
            return False
        wakeups.publish(f"execution:{pk}")
    return True
