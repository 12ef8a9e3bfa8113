"""One event loop per worker process: a thousand sleeping runs hold no worker, no thread and no database connection each."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import structlog
from django.db import connection

from executions_app.models import Execution
from executions_app.services import drive, ending, leases
from executions_app.services.ending import Collected, Ending
from executions_app.services.keep import keep
from runtime.drivers.errors import ExecutorError, ExecutorRefused
from runtime.drivers.executor_client import AsyncExecutorClient
from sandbox_platform.errors import OUTAGE
from sandbox_platform.queue import Queue, enqueue

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
# Seconds between tries where the executor can't be reached, and where it says that it is busy.
TRY_AGAIN = 0.25
DATABASE_TRY_AGAIN = 1.0
# Seconds until a run is to be cancelled again that its executor does not know: whoever has just leased it is about to tell of it.
CANCEL_AGAIN = (0.02, 0.1, 0.5)


class DriveLoop:
    """The loop's thread, and two threads for what it has to ask the database."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._database = ThreadPoolExecutor(max_workers=2, thread_name_prefix="drive-db")
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelling: set[str] = set()
        threading.Thread(target=self._loop.run_forever, name="drive-loop", daemon=True).start()

    def submit(self, execution: Execution, again: bool = False) -> None:
        """Drive it, behind the caller's back. The execution must be leased to this process.

        `again`: its executor may have been told already. Nobody starts it then whose end has been asked for meanwhile.
        """
        self._loop.call_soon_threadsafe(lambda: self._begin(self._drive(execution, again)))

    def cancel(self, execution: Execution) -> None:
        """Ask its executor for its end, behind the caller's back: one that hangs keeps nobody waiting. The ticker asks again."""
        self._loop.call_soon_threadsafe(lambda: self._begin(self._cancel(execution)))

    def acknowledge(self, execution: Execution) -> None:
        """Tell its executor that its result is stored, behind the caller's back."""
        self._loop.call_soon_threadsafe(lambda: self._begin(self._acknowledge(execution)))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` where the database may be used. While the database is away, the answer has to wait."""
        while True:
            try:
                return await self._loop.run_in_executor(self._database, lambda: _fresh(function, *args, **kwargs))
            except OUTAGE as error:
                log.warning("database_unavailable", error=str(error))
                await asyncio.sleep(DATABASE_TRY_AGAIN)

    async def _drive(self, execution: Execution, again: bool) -> None:
        try:
            structlog.contextvars.bind_contextvars(request_id=execution.request_id)
            with leases.driving(execution.pk):
                end = await self._follow(execution, again)
                stored = end is not None and await self._ask(keep, execution, end)
            if stored:
                await self._acknowledge(execution)
        except Exception:
            log.exception("drive_failed", execution=execution.pk)
            await self._ask(drive.hand_over, execution)

    async def _follow(self, execution: Execution, again: bool) -> Ending | None:
        socket = drive.socket_of(execution)
        request = drive.request_of(execution)
        over = await self._ask(drive.over_as, execution) if again else ""
        if over is None:
            return None
        collected, patience = Collected(), drive.patience_for(execution)
        looked = late = freed = False
        while socket is not None and not late:
            late = patience.left <= 0  # a last look then: there may be a result all the same
            latest = Collected()
            client = AsyncExecutorClient(socket, execution.request_id or None, drive.peer_of(execution))
            run_id = execution.run_id
            try:
                async for event in (
                    client.attach(run_id, follow=False, deadline=drive.LAST_LOOK)
                    if late
                    else client.attach(run_id, deadline=patience)
                    if over
                    else client.run(run_id, request, patience)
                ):
                    latest.add(event)
                    collected = latest  # not before: where the sandbox is gone, what was read of it stays
                if collected.result is None:
                    break
                if drive.settles_at_once(collected):
                    return drive.settle(execution, collected)
                if (end := await self._ask(drive.settle, execution, collected)) is not None:
                    return end
                collected, patience, late = Collected(), drive.patience_for(execution), False
            except ExecutorError as error:
                if over and isinstance(error, ExecutorRefused) and error.code == "not_found":
                    return ending.without_result(collected, over)  # and it never began
                if late:
                    break
                if (end := await self._ask(drive.refused, execution, collected, error)) is not None:
                    return end
                if not looked:
                    looked = True
                    await self._ask(_look_at_container, execution)
                if isinstance(error, ExecutorRefused) and error.code == "full" and not freed:
                    freed = True
                    await self._free(execution)
                else:
                    await asyncio.sleep(TRY_AGAIN)
            if (over := await self._ask(drive.over_as, execution)) is None:
                return None
        return await self._ask(drive.overdue, execution, collected)

    async def _cancel(self, execution: Execution) -> None:
        socket, run_id = drive.socket_of(execution), execution.run_id
        if socket is None or run_id in self._cancelling:
            return
        self._cancelling.add(run_id)
        client = AsyncExecutorClient(socket, execution.request_id or None, drive.peer_of(execution))
        try:
            for pause in (*CANCEL_AGAIN, 0):
                try:
                    return await client.cancel(run_id)
                except ExecutorRefused as error:
                    if error.code != "not_found" or not pause:
                        raise
                await asyncio.sleep(pause)
        except ExecutorError as error:
            log.info("cancel_not_delivered", execution=execution.pk, error=str(error))
        finally:
            self._cancelling.discard(run_id)

    async def _acknowledge(self, execution: Execution) -> None:
        try:
            await self._forget(execution, execution.run_id)
        except ExecutorError as error:
            # It may wait until the executor is full: see `_free`.
            log.debug("not_acknowledged", execution=execution.pk, error=str(error))

    async def _free(self, execution: Execution) -> None:
        """Its executor holds too many results: acknowledge again what has been stored of the session. An acknowledgement may get lost."""
        for run_id in await self._ask(drive.stored_runs, execution):
            try:
                await self._forget(execution, run_id)
            except ExecutorRefused:
                continue  # known to be forgotten
            except ExecutorError as error:
                log.info("not_freed", execution=execution.pk, error=str(error))
                return

    async def _forget(self, execution: Execution, run_id: str) -> None:
        if (socket := drive.socket_of(execution)) is not None:
            client = AsyncExecutorClient(socket, execution.request_id or None, drive.peer_of(execution))
            await client.acknowledge(run_id, deadline=2.0)


def _fresh(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    connection.close_if_unusable_or_obsolete()
    return function(*args, **kwargs)


def _look_at_container(execution: Execution) -> None:
    """Have the engine asked now rather than at the next pass whether the sandbox is still there."""
    container = execution.session.container
    if container is not None:
        enqueue(Queue.LIFECYCLE, "runtime.tasks.look", container.pk)


_current: DriveLoop | None = None
_lock = threading.Lock()


def loop() -> DriveLoop:
    """This process's loop, whichever of its threads asks first; a fork starts its own."""
    global _current
    with _lock:
        if _current is None or _current.pid != os.getpid():
            _current = DriveLoop()
        return _current


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
