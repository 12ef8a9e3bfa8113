"""Level-triggered: whatever was left lying by a crash or a lost doorbell is found here."""

from __future__ import annotations

import datetime as dt

from django.db.models import F, Q
from django.db.models.functions import Now

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import ending
from executions_app.services.finish import finish, finish_pending
from executions_app.services.loop import loop
from sandbox_platform.models import Process
from sandbox_platform.queue import Queue, enqueue
from sessions_app.models import ENDED, Reason, Session, SessionStatus

# Seconds that the driver of a run gets, after the session's end, to hand in what the run printed.
LAST_WORDS = 8
# What no executor is told of again.
LARGE = ("code", "event", "stdin", "stdout", "stderr", "return_value")


def dispatch_waiting() -> None:
    """Ring again for sessions with a free slot and runs that wait."""
    waiting = Execution.objects.filter(status=ExecutionStatus.PENDING, created_at__lt=Now() - dt.timedelta(seconds=2))
    ready = Session.objects.filter(
        pk__in=waiting.values("session_id"),
        status=SessionStatus.RUNNING,
        closing="",
        active_runs__lt=F("max_concurrency"),
    )
    for pk in ready.values_list("pk", flat=True)[:200]:
        enqueue(Queue.RUNS, "executions_app.tasks.dispatch", pk)


def reattach_orphans() -> None:
    """Ring for running executions whose driver is dead or gave up its lease."""
    living = Process.objects.filter(dead_at=None).values("pk")
    orphans = Execution.objects.filter(Q(driver=None) | ~Q(driver__in=living), status=ExecutionStatus.RUNNING)
    for pk in orphans.values_list("pk", flat=True)[:500]:
        enqueue(Queue.RUNS, "executions_app.tasks.reattach", pk)


def cancel_again() -> None:
    """Deliver what has not taken effect: the executor may not have known the run yet, or the task was lost.

    The end of a session asks for the end of its runs. It writes to none of them: their own ends lock them before the session.
    """
    then = Now() - dt.timedelta(seconds=2)
    asked = Q(cancel_requested_at__lt=then) | Q(session__status__in=ENDED, session__ended_at__lt=then)
    running = Execution.objects.filter(asked, status=ExecutionStatus.RUNNING)
    for execution in running.select_related("session__container").defer(*LARGE)[:1000]:
        loop().cancel(execution)


def end_with_session(session_id: str) -> None:
    """A session takes no more runs: those that wait end."""
    for pk in Execution.objects.filter(session_id=session_id, status=ExecutionStatus.PENDING).values_list(
        "pk", flat=True
    ):
        finish_pending(
            pk, ending.without_result(None, "session_ended", "The session ended before the execution started")
        )


def end_leftovers() -> None:
    """Runs and waiting executions of sessions that ended a while ago: nobody will bring their result any more."""
    over = Session.objects.filter(status__in=ENDED, ended_at__lt=Now() - dt.timedelta(seconds=LAST_WORDS))
    left = Execution.objects.filter(session__in=over, status__in=(ExecutionStatus.PENDING, ExecutionStatus.RUNNING))
    for execution in left.select_related("session__container").defer(*LARGE)[:500]:
        if execution.status == ExecutionStatus.PENDING:
            end_with_session(execution.session_id)
        else:
            loop().cancel(execution)  # once more: its sandbox may have to stay for its files
            finish(execution, _lost_with(execution.session))


def _lost_with(session: Session) -> ending.Ending:
    if session.status_reason == Reason.OOM_KILLED:
        return ending.without_result(None, "oom", session.status_detail)
    if session.status == SessionStatus.FAILED:
        return ending.without_result(None, "lost", session.status_detail)
    return ending.without_result(None, "session_ended", session.status_detail)
