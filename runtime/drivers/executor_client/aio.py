"""The same for an event loop: one coroutine and one descriptor a run, so that a thousand are driven by one process."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

from runtime.drivers.errors import ExecutorUnavailable
from runtime.drivers.executor_client import protocol, requests
from runtime.drivers.executor_client.events import Event, Started
from runtime.drivers.executor_client.patience import Patience
from runtime.drivers.executor_client.requests import RunRequest
from runtime.drivers.executor_client.socket_file import check_peer, new_socket, pinned

RECEIVE = 64 * 1024
BACKLOG_PAUSE = 0.01
"""Seconds between two tries to connect to a socket whose backlog is full."""
T = TypeVar("T")


class AsyncExecutorClient:
    """Drives runs of the executor behind one socket file. Holds no connection.

    Deadlines, errors and `members` are those of `ExecutorClient`: seconds from the call, for the whole exchange.
    """

    def __init__(self, socket_path: Path, request_id: str | None = None, members: tuple[str, ...] = ()) -> None:
        self._path = socket_path
        self._request_id = request_id
        self._members = members

    async def run(self, run_id: str, request: RunRequest, deadline: float | Patience) -> AsyncIterator[Event]:
        """Start the run (or join it, if the id is known) and follow it to its result, the last event."""
        stream = protocol.EventStream(follow=True)
        target = requests.run_target(run_id, follow=1)
        async for event in self._events("PUT", target, stream, deadline, request.encode()):
            yield event

    async def attach(
        self, run_id: str, stdout: int = 0, stderr: int = 0, follow: bool = True, deadline: float | Patience = 10.0
    ) -> AsyncIterator[Event]:
        """The run's events from these byte offsets: up to the result if `follow`, else those there are by now."""
        target = requests.run_target(run_id, follow=int(follow), stdout=stdout, stderr=stderr)
        async for event in self._events("GET", target, protocol.EventStream(follow, stdout, stderr), deadline):
            yield event

    async def cancel(self, run_id: str, deadline: float = 5.0) -> None:
        """Ask for the end of the run. One that is done already is no error."""
        await self._command("POST", requests.run_target(run_id, "/cancel"), deadline)

    async def acknowledge(self, run_id: str, deadline: float = 5.0) -> None:
        """The result is safe: the executor may forget it."""
        await self._command("DELETE", requests.run_target(run_id), deadline)

    async def _command(self, method: str, target: str, deadline: float) -> None:
        exchange = _Exchange(deadline, self._members)
        try:
            await exchange.begin(self._path, self._head(method, target, b""))
            answer = protocol.JsonAnswer()
            while not answer.done:
                data = await exchange.receive()
                if not data:
                    raise ExecutorUnavailable("The executor closed the connection in the middle of an answer.")
                answer.feed(data)
            answer.value()
        finally:
            exchange.close()

    async def _events(
        self, method: str, target: str, stream: protocol.EventStream, deadline: float | Patience, body: bytes = b""
    ) -> AsyncIterator[Event]:
        patience = deadline if isinstance(deadline, Patience) else Patience(deadline, math.inf, deadline)
        exchange = _Exchange(patience.left, self._members)
        try:
            await exchange.begin(self._path, self._head(method, target, body) + body)
            while stream.result is None:
                data = await exchange.receive()
                if not data:
                    stream.close()
                    return
                for event in stream.feed(data):
                    if isinstance(event, Started):
                        patience.started()
                        exchange.end = patience.end
                    yield event
        finally:
            exchange.close()

    def _head(self, method: str, target: str, body: bytes) -> bytes:
        return requests.request_head(method, target, length=len(body), request_id=self._request_id)


class _Exchange:
    """One connection with one deadline for all that happens on it."""

    def __init__(self, deadline: float, members: tuple[str, ...]) -> None:
        self._members = members
        self.end = time.monotonic() + deadline  # by the monotonic clock
        self._socket = new_socket()
        self._socket.setblocking(False)

    async def begin(self, path: Path, request: bytes) -> None:
        """Connect, and send the request."""
        with pinned(path) as name:
            # Not loop.sock_connect: for a Unix socket with a full backlog it waits for "writable", which is no answer.
            while not self._connected(name):
                await self._in_time(asyncio.sleep(BACKLOG_PAUSE))
        check_peer(self._socket, self._members)
        await self._in_time(asyncio.get_running_loop().sock_sendall(self._socket, request))

    def _connected(self, name: str) -> bool:
        try:
            self._socket.connect(name)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ExecutorUnavailable(f"The connection to the executor broke: {error}") from error
        return True

    async def receive(self) -> bytes:
        """What has arrived; `b""` at the end."""
        # sock_recv does not suspend while there is data: without this, a flood would outlast the deadline and starve
        # the other runs of the loop.
        await self._in_time(asyncio.sleep(0))
        return await self._in_time(asyncio.get_running_loop().sock_recv(self._socket, RECEIVE))

    def close(self) -> None:
        """Cut the connection."""
        self._socket.close()

    async def _in_time(self, step: Awaitable[T]) -> T:
        left = self.end - time.monotonic()
        try:
            async with asyncio.timeout(left):
                return await step
        except TimeoutError as error:
            raise ExecutorUnavailable("The executor did not answer within the deadline.") from error
        except OSError as error:
            raise ExecutorUnavailable(f"The connection to the executor broke: {error}") from error
