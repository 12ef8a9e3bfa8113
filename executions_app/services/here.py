"""Driving a run in the web thread that took the request: no queue hop."""

from __future__ import annotations

import queue
import threading
import time
from functools import cache

import structlog

from executions_app.models import Execution
from executions_app.services import drive, leases
from executions_app.services.ending import Collected, Ending
from executions_app.services.keep import keep
from executions_app.services.loop import loop
from runtime.drivers.errors import ExecutorError, ExecutorUnavailable
from runtime.drivers.executor_client import ExecutorClient
from sandbox_platform.errors import OUTAGE

log = structlog.get_logger(__name__)
# Seconds: an acknowledgement frees memory in the sandbox; it must not take the processor from the answer that is being written.
ACKNOWLEDGE_AFTER = 0.02
# Seconds: the thread that does it serves all sandboxes. One that is slower is left to the loop, which waits for many at once.
ACKNOWLEDGE_WITHIN = 0.25


def drive_here(execution: Execution, seconds: float) -> bool:
    """Drive for at most `seconds`. True if it is done, and `execution` shows how; otherwise a worker goes on with it.

    Raises one of OUTAGE where the database is away: this process's own loop then goes on until the result is stored.
    """
    try:
        with leases.driving(execution.pk):
            end = _follow(execution, seconds)
            if end is not None:
                keep(execution, end, answered=True)
        if end is None:
            drive.hand_over(execution)
            return False
    except OUTAGE:
        loop().submit(execution, again=True)
        raise
    except Exception:
        log.exception("drive_failed", execution=execution.pk)
        drive.hand_over(execution)
        return False
    _acknowledger().put(execution)
    return True


def _follow(execution: Execution, seconds: float) -> Ending | None:
    client, collected = drive.client_of(execution), Collected()
    if client is None:
        return None
    patience = drive.patience_for(execution, max(seconds, 0.05))
    try:
        for event in client.run(execution.run_id, drive.request_of(execution), patience):
            collected.add(event)
        return drive.settle(execution, collected)
    except ExecutorError as error:
        if patience.run_is_late:
            return _last_look(client, execution, collected)
        end = drive.refused(execution, collected, error) if patience.left > 0 else None
        if end is None and collected.said_something:
            drive.keep_output(execution, collected)
        return end


def _last_look(client: ExecutorClient, execution: Execution, collected: Collected) -> Ending | None:
    """The run is late, as far as we were told: there may be a result all the same."""
    latest = Collected()
    try:
        for event in client.attach(execution.run_id, follow=False, deadline=drive.LAST_LOOK):
            latest.add(event)
    except ExecutorError:
        latest = collected
    if latest.result is None:
        return drive.overdue(execution, collected)
    return drive.settle(execution, latest)


@cache
def _acknowledger() -> queue.SimpleQueue[Execution]:
    """Takes what is to be acknowledged, a little later, by a thread of its own."""
    todo: queue.SimpleQueue[Execution] = queue.SimpleQueue()

    def work() -> None:
        while True:
            first = todo.get()
            time.sleep(ACKNOWLEDGE_AFTER)
            for execution in [first, *(todo.get() for _ in range(todo.qsize()))]:
                _acknowledge(execution)

    threading.Thread(target=work, name="acknowledge", daemon=True).start()
    return todo


def _acknowledge(execution: Execution) -> None:
    try:
        if (client := drive.client_of(execution)) is not None:
            client.acknowledge(execution.run_id, deadline=ACKNOWLEDGE_WITHIN)
    except ExecutorUnavailable:
        loop().acknowledge(execution)
    except ExecutorError as error:
        log.debug("not_acknowledged", execution=execution.pk, error=str(error))
    except Exception:
        log.exception("not_acknowledged", execution=execution.pk)
