"""Driving a run: lease, PUT to the executor under its id, collect until the end, write once.

Two callers, one procedure. A web thread with `Prefer: wait` drives with blocking calls (`here.py`); a worker's event loop drives a
thousand at once (`loop.py`). Both start by `claim.eldest` or `submit`, and end in `settle` and `finish`. Whoever takes over from a dead
process repeats the PUT: the executor knows the id and answers with the first run.
"""

from __future__ import annotations

import math
from pathlib import Path

import structlog
from django.db import transaction
from django.db.models import F, Q

from executions_app.models import FINAL, Execution, ExecutionStatus
from executions_app.services import ending
from executions_app.services.ending import Collected, Ending
from runtime.drivers.errors import ExecutorError, ExecutorProtocolError, ExecutorRefused
from runtime.drivers.executor_client import ExecutorClient, Patience, RunRequest
from sandbox_platform import processes, wakeups
from sandbox_platform.queue import Queue, enqueue
from sessions_app.models import ENDED, Reason, Session, SessionStatus
from sessions_app.services import lifecycle

log = structlog.get_logger(__name__)
# Seconds beyond its time-out after which a run that gave no result is ended from outside, whatever its sandbox says. An executor that
# keeps its deadlines is done by then: it kills all that the run has, and looks for up to 5 s at the workspace.
HOST_GRACE = 8.0
# Seconds for a run to begin. The executor gives it up after so many by itself; the time-out counts from the start.
START_PATIENCE = 60.0
# Seconds for the last question whether there is a result, before a sandbox is destroyed.
LAST_LOOK = 1.0
MAX_ATTEMPTS = 3
# Results that an executor holds until they are acknowledged, and some more.
MOST_HELD = 300
# A run that can't be followed, or ends every process that tries, is given up after so many.
MAX_TAKEOVERS = 20


def take_over(pk: str) -> Execution | None:
    """Take a running execution that has no living driver."""
    from sandbox_platform.models import Process

    living = Process.objects.filter(dead_at=None).values("pk")
    orphan = Execution.objects.filter(Q(driver=None) | ~Q(driver__in=living), pk=pk, status=ExecutionStatus.RUNNING)
    with transaction.atomic():  # the lease and what is needed to use it, or neither
        if not orphan.update(driver=processes.own_id(), takeovers=F("takeovers") + 1):
            return None
        return Execution.objects.select_related("session__container").get(pk=pk)


def request_of(execution: Execution) -> RunRequest:
    """What the executor is told."""
    return RunRequest(
        language=execution.language,
        code=execution.code,
        event=execution.event,
        timeout=float(execution.timeout),
        stdin=None if execution.stdin is None else bytes(execution.stdin),
        args=tuple(execution.args),
        env=execution.env_vars,
        working_directory=execution.working_directory,
        request_id=execution.request_id or None,
    )


def socket_of(execution: Execution) -> Path | None:
    """Where its executor listens."""
    container = execution.session.container
    return Path(container.socket) if container and container.socket else None


def peer_of(execution: Execution) -> tuple[str, ...]:
    """What the cgroup of its executor must name."""
    container = execution.session.container
    return (container.ref, container.name) if container and container.ref else ()


def client_of(execution: Execution) -> ExecutorClient | None:
    """Of its executor, where there is one."""
    socket = socket_of(execution)
    return ExecutorClient(socket, execution.request_id or None, peer_of(execution)) if socket else None


def patience_for(execution: Execution, limit: float = math.inf) -> Patience:
    """How long the host waits for it, `limit` seconds at the most."""
    return Patience(START_PATIENCE + HOST_GRACE, execution.timeout + HOST_GRACE, limit)


def settles_at_once(collected: Collected) -> bool:
    """Whether `settle` needs nothing of the database."""
    return collected.result is not None and collected.result.outcome not in ("lost", "cancelled")


def settle(execution: Execution, collected: Collected) -> Ending | None:
    """What follows from a result. None: it was lost, another try is wanted and has been prepared, by this process or by another."""
    result = collected.result
    if result is not None and result.outcome == "lost" and execution.retry_lost and execution.attempt < MAX_ATTEMPTS:
        again = Execution.objects.filter(
            pk=execution.pk, status=ExecutionStatus.RUNNING, attempt=execution.attempt, cancel_requested_at=None
        )
        if again.update(attempt=F("attempt") + 1):
            execution.attempt += 1
            wakeups.publish(execution.topic)  # who follows its output begins anew
            return None
        same = Execution.objects.filter(pk=execution.pk, status=ExecutionStatus.RUNNING, attempt=execution.attempt)
        if not same.exists():
            return None  # whoever took it over has seen the same, and is at the next one
    session_ended = (
        result is not None
        and result.outcome == "cancelled"
        and Session.objects.filter(pk=execution.session_id).exclude(status=SessionStatus.RUNNING).exists()
    )
    return ending.of_result(collected, session_ended)


def refused(execution: Execution, collected: Collected, error: ExecutorError) -> Ending | None:
    """The ending that an executor's answer means, or None where trying again makes sense (busy, full, no connection)."""
    if isinstance(error, ExecutorProtocolError):
        log.error("executor_protocol", execution=execution.pk, error=str(error))
        lifecycle.end(
            execution.session_id, Reason.RUNTIME_ERROR, "Its sandbox broke the executor's protocol and was destroyed"
        )
        return ending.without_result(collected, "lost", "The sandbox's executor could not be trusted any more")
    if isinstance(error, ExecutorRefused) and error.code not in ("busy", "full", "internal"):
        log.error("executor_refused", execution=execution.pk, code=error.code, error=str(error))
        gone = error.code == "gone"
        return ending.without_result(
            collected, "lost", "The run's result was lost" if gone else "The executor refused the run"
        )
    session = Session.objects.only("status", "status_reason").get(pk=execution.session_id)
    return ending.without_result(collected, _ended_as(session.status, session.status_reason)) if session.ended else None


def over_as(execution: Execution) -> str | None:
    """Before a PUT is repeated: the outcome that has been asked for meanwhile, by a cancellation or the session's end; "" if none has.

    None: it is not this process's any more.
    """
    mine = Execution.objects.filter(pk=execution.pk, status=ExecutionStatus.RUNNING, driver=processes.own_id())
    row = mine.values_list("cancel_requested_at", "session__status", "session__status_reason").first()
    if row is None:
        return None
    cancelled, status, reason = row
    return _ended_as(status, reason) if status in ENDED else "cancelled" if cancelled else ""


def stored_runs(execution: Execution) -> list[str]:
    """The ids, for the executor, of what has ended in its session lately, and of all their tries."""
    ended = Execution.objects.filter(session_id=execution.session_id, status__in=FINAL).order_by("-number")
    rows = ended.values_list("pk", "attempt")[:MOST_HELD]
    return [Execution(pk=pk, attempt=attempt).run_id for pk, last in rows for attempt in range(1, last + 1)]


def _ended_as(status: str, reason: str) -> str:
    """The outcome of a run whose session has ended so."""
    if status == SessionStatus.TERMINATED or reason in (Reason.EXPIRED, Reason.MAX_LIFETIME):
        return "session_ended"
    return "oom" if reason == Reason.OOM_KILLED else "lost"


def overdue(execution: Execution, collected: Collected) -> Ending:
    """The host's own timer, which no sandbox can hold up: the run timed out and its sandbox is not to be trusted any more."""
    log.error("host_deadline", execution=execution.pk)
    lifecycle.end(
        execution.session_id, Reason.RUNTIME_ERROR, "Its sandbox did not end a run at its time-out and was destroyed"
    )
    return ending.without_result(collected, "timeout", "The run was ended from outside at its time-out")


def given_up() -> Ending:
    """The ending of a run that nobody manages to follow."""
    message = f"The run could not be followed to its end by any of {MAX_TAKEOVERS} processes"
    return ending.without_result(None, "lost", message)


def keep_output(execution: Execution, collected: Collected) -> None:
    """Store what a run said whose sandbox may be gone: whoever goes on with it may read nothing any more."""
    mine = Execution.objects.filter(pk=execution.pk, status=ExecutionStatus.RUNNING, driver=processes.own_id())
    mine.update(**collected.output())


def hand_over(execution: Execution) -> None:
    """Give the lease back; a worker reattaches."""
    with transaction.atomic():
        mine = Execution.objects.filter(pk=execution.pk, status=ExecutionStatus.RUNNING, driver=processes.own_id())
        if mine.update(driver=None):
            enqueue(Queue.RUNS, "executions_app.tasks.reattach", execution.pk)
