"""Submitting and cancelling."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import doorbell, ending, finish, statements
from sandbox_platform import crypto, direct, processes
from sandbox_platform.errors import ApiError
from sandbox_platform.models import ApiKey
from sandbox_platform.queue import Queue, enqueue
from sessions_app.models import Session, SessionStatus
from sessions_app.services import lifecycle


def submit(session: Session, values: dict[str, Any], request_id: str, drive_here: bool) -> Execution:
    """A new execution. Call inside a transaction.

    With `drive_here` it is `running` at once, leased to this process, if the session has a free slot and nobody waits for one:
    the caller must then drive it. Otherwise it is `pending`, and a worker is told.
    """
    at_once = drive_here and lifecycle.take_slot(session.pk)
    execution = _new(session.project_id, session.pk, values, request_id, at_once)
    execution.session = session
    if at_once:
        direct.insert(execution)
    elif direct.chains():
        _queue(execution)
    else:
        _admit(session)
        direct.insert(execution)
        doorbell.ring(session.pk)
    return execution


def submit_here(key: ApiKey, session_id: str, values: dict[str, Any], request_id: str) -> Execution | None:
    """What `submit` does with `drive_here`, by one statement and without waiting for the disk. None where that can't be done: no such
    session, no such language, no slot, a key that has been revoked, another database.

    Nobody knows of this execution until it has ended: the end is written to the disk, and what stands before it in the log with it. For
    a request that may be repeated (`Idempotency-Key`) this would not do: it must find its first answer even if the database crashed.
    """
    if not direct.chains() or "\0" in session_id:
        return None
    execution = _new(key.project.pk, session_id, values, request_id, True)
    return execution if statements.start(execution, key) else None


def submit_alone(session: Session, values: dict[str, Any], request_id: str) -> Execution:
    """What `submit` does without `drive_here`, outside of a transaction."""
    with nullcontext() if direct.chains() else transaction.atomic():
        return submit(session, values, request_id, False)


def _new(project_id: int, session_id: str, values: dict[str, Any], request_id: str, running: bool) -> Execution:
    now = timezone.now()
    state = {"status": ExecutionStatus.RUNNING, "driver": processes.own_id(), "started_at": now} if running else {}
    return Execution(
        number=time.time_ns(),
        project_id=project_id,
        session_id=session_id,
        language=values["language"],
        code=values["code"],
        event=values.get("event", "{}"),
        stdin=values.get("stdin"),
        args=values.get("args", []),
        env_sealed=crypto.seal(values.get("env_vars", {})),
        working_directory=values.get("working_directory", ""),
        timeout=values["timeout"],
        retry_lost=values.get("retry_lost", False),
        request_id=request_id,
        created_at=now,
        **state,
    )


def _queue(execution: Execution) -> None:
    """By one statement."""
    admitted = statements.queue(execution, settings.MAX_PENDING_EXECUTIONS)
    if not admitted.live:
        raise _ended(execution.session)
    if not admitted.room:
        raise _full()


def _admit(session: Session) -> None:
    """The session's row stays locked until the commit, so that its end can't miss the new execution."""
    live = Session.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=Now()), pk=session.pk, closing="",
        status__in=(SessionStatus.CREATING, SessionStatus.RUNNING),
    )  # fmt: skip
    if not live.update(last_activity_at=Now()):
        raise _ended(session)
    most = settings.MAX_PENDING_EXECUTIONS
    if Execution.objects.filter(status=ExecutionStatus.PENDING)[:most].count() >= most:
        raise _full()


def _ended(session: Session) -> ApiError:
    return ApiError("SessionNotFound", f"Session '{session.pk}' does not exist or has been terminated")


def _full() -> ApiError:
    return ApiError("TooManyRequestsExection", "The queue of executions is full", headers={"Retry-After": "5"})


def cancel(execution: Execution) -> None:
    """End it: at once where it waits, by the executor where it runs. One that is done stays as it is."""
    gone = ending.without_result(None, "cancelled", "The execution was cancelled before it started")
    if finish.finish_pending(execution.pk, gone):
        return
    with transaction.atomic():
        running = Execution.objects.filter(pk=execution.pk, status=ExecutionStatus.RUNNING)
        if not running.update(cancel_requested_at=Now()):
            return
        enqueue(Queue.RUNS, "executions_app.tasks.cancel", execution.pk)
