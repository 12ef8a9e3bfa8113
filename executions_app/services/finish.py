"""Writing the end of an execution, once, with all that follows from it, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from executions_app.models import FINAL, Execution, ExecutionStatus, topic_of
from executions_app.services import doorbell, statements
from executions_app.services.ending import Ending
from executions_app.services.statements import After
from sandbox_platform import direct, metrics, wakeups
from sandbox_platform.afterwards import afterwards
from sessions_app.models import Owed, Session, SessionStatus
from sessions_app.services import debts, lifecycle

log = structlog.get_logger(__name__)
# What is left of an error: its words were the tenant's.
ERASED = {"type": "Erased", "message": "Erased with the session's files and outputs", "traceback": None}


def finish(execution: Execution, end: Ending, answered: bool = False) -> bool:
    """Store the end of a running execution; free its slot and dispatch the session's next one. False if it had ended already.

    With `answered` the caller is about to tell whoever waits for it; others who may wait hear of it a moment later.
    """
    changes = {"status": end.status, "driver": None, "completed_at": timezone.now(), **end.values}
    if direct.chains() and not end.values.get("artifacts"):
        after = statements.store(execution, changes, ring=not answered)
    else:
        with transaction.atomic():
            after = _store(execution, changes)
            if after and end.values.get("artifacts"):
                debts.owe(execution.session_id, Owed.COPY)
    if after is None:
        return False
    _follow_up(execution, after, wakeups.publish_soon if answered else wakeups.publish)
    for name, value in changes.items():
        setattr(execution, name, value)
    afterwards(partial(_tell, execution, end))
    return True


def _tell(execution: Execution, end: Ending) -> None:
    metrics.run_seconds.labels(end.status).observe((end.values.get("duration_ms") or 0) / 1000)
    log.info("execution_finished", execution=execution.pk, status=end.status, request_id=execution.request_id)


def _store(execution: Execution, changes: dict[str, Any]) -> After | None:
    if not direct.update(Execution, execution.pk, changes, "status = %s", [ExecutionStatus.RUNNING]):
        return None
    freed = lifecycle.free_slot(execution.session_id)
    return After(
        freed, direct.one(statements.WAITING, [execution.session_id, ExecutionStatus.PENDING]) is not None, False
    )


def _follow_up(execution: Execution, after: After, wake: Callable[[str], None]) -> None:
    """Nothing is lost where this is not reached: the ticker looks for closing sessions and for runs that wait."""
    if after.freed.closing:
        lifecycle.end_if_done(execution.session_id)
    if after.waiting:
        doorbell.ring(execution.session_id)
    if not after.rung:
        afterwards(partial(wake, execution.topic))
    if after.freed.status != SessionStatus.RUNNING:  # somebody gives back what it held, and waits for its runs
        if Session.objects.filter(pk=execution.session_id, purge=True).exists():
            erase(execution.session_id)
        wakeups.publish(f"session:{execution.session_id}")


def erase(session_id: str) -> None:
    """What the tenant wants erased, of the session's runs that have ended: output, results, code, events.

    How each of them ended stays told by its error's code.
    """
    rows = Execution.objects.filter(session_id=session_id, status__in=FINAL)
    for code in set(rows.filter(error__isnull=False).values_list("error__error_code", flat=True)):
        rows.filter(error__error_code=code).update(error={**ERASED, "error_code": code})
    rows.update(
        stdout=b"",
        stderr=b"",
        return_value=None,
        artifacts=[],
        code="",
        event="null",
        stdin=None,
        args=[],
        working_directory="",
        env_sealed=b"",
    )


def finish_pending(pk: str, end: Ending) -> bool:
    """End one that never ran."""
    with transaction.atomic():
        pending = Execution.objects.filter(pk=pk, status=ExecutionStatus.PENDING)
        if not pending.move(end.status, completed_at=Now(), **end.values):
            return False
        wakeups.publish(topic_of(pk))
    return True
