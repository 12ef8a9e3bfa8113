"""Tasks of executions: ids in, nothing out, safe to repeat."""

from __future__ import annotations

import structlog

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import claim, drive, finish, sweep
from executions_app.services.loop import loop

log = structlog.get_logger(__name__)


def dispatch(session_id: str, task: int | None = None) -> None:
    """Start what waits in the session, in order, as far as slots are free. `task`: the queue's row that asks for it, if it is there."""
    execution = claim.eldest(session_id, look=False, task=task)
    while execution is not None:
        loop().submit(execution)
        execution = claim.eldest(session_id)


def reattach(execution_id: str) -> None:
    """Go on with a run that has no living driver; one that too many had to go on with is given up."""
    execution = drive.take_over(execution_id)
    if execution is not None and execution.takeovers > drive.MAX_TAKEOVERS:
        log.error("run_given_up", execution=execution.pk)
        loop().cancel(execution)
        finish.finish(execution, drive.given_up())
    elif execution is not None:
        loop().submit(execution, again=True)


def cancel(execution_id: str) -> None:
    """Deliver a cancellation."""
    running = Execution.objects.select_related("session__container").filter(
        pk=execution_id, status=ExecutionStatus.RUNNING
    )
    if (execution := running.first()) is not None:
        loop().cancel(execution)


def cancel_all(session_id: str) -> None:
    """Cancel every run of a session that has ended."""
    running = Execution.objects.select_related("session__container").filter(
        session_id=session_id, status=ExecutionStatus.RUNNING
    )
    for execution in running:
        loop().cancel(execution)


def tick() -> None:
    """Each 2 s: what somebody left lying."""
    sweep.dispatch_waiting()
    sweep.reattach_orphans()
    sweep.cancel_again()
    sweep.end_leftovers()
