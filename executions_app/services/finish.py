"""Writing the end of an execution, once, with all that follows from it, in one transaction."""

from __future__ import annotations

import structlog
from django.db import transaction
from django.db.models.functions import Now

from executions_app.models import Execution, ExecutionStatus
from executions_app.services.ending import Ending
from sandbox_platform import metrics, wakeups
from sandbox_platform.queue import Queue, enqueue
from sessions_app.services import lifecycle

log = structlog.get_logger(__name__)


def finish(execution: Execution, end: Ending) -> bool:
    """Store the end of a running execution; free its slot and dispatch the session's next one. False if it had ended already."""
    with transaction.atomic():
        running = Execution.objects.filter(pk=execution.pk, status=ExecutionStatus.RUNNING)
        if not running.move(end.status, driver=None, completed_at=Now(), **end.values):
            return False
        lifecycle.count_run(execution.session_id, -1)
        lifecycle.end_if_done(execution.session_id)
        if Execution.objects.filter(session_id=execution.session_id, status=ExecutionStatus.PENDING).exists():
            enqueue(Queue.RUNS, "executions_app.tasks.dispatch", execution.session_id)
        wakeups.publish(execution.topic)
        wakeups.publish(f"session:{execution.session_id}")
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
