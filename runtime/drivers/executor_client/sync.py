"""The blocking client, for threads.

Every deadline is the whole exchange's, in seconds from the call: a server that drips bytes gains nothing by it. That of a transfer
grows with what is to be transferred.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from runtime.drivers.errors import ExecutorUnavailable
from runtime.drivers.executor_client import fields, protocol, requests
from runtime.drivers.executor_client.events import Event, Started
from runtime.drivers.executor_client.file_values import (
    FileInfo,
    FilePage,
    Unpacked,
    parse_file_info,
    parse_files,
    parse_unpacked,
)
from runtime.drivers.executor_client.health import Health, parse_health
from runtime.drivers.executor_client.patience import Patience
from runtime.drivers.executor_client.requests import RunRequest
from runtime.drivers.executor_client.socket_file import check_peer, new_socket, pinned

RECEIVE = 64 * 1024
PAGE = 10_000
"""Files of one page of a list."""
TRANSFER_TIME = 300.0
"""Seconds for a file of any size, and one more for each so many bytes of it: whoever is at the other end may be slow."""
SLOWEST = 64 * 1024
T = TypeVar("T")


class ExecutorClient:
    """Talks to the executor behind one socket file. Holds no connection, so threads and processes may share it.

    `members` are words of which the cgroup of whoever listens must have one: a sandbox's ref and name (see `check_peer`).

    All methods raise `ExecutorUnavailable`, `ExecutorProtocolError` or `ExecutorRefused`, and nothing else for what the
    other side does.
    """

    def __init__(self, socket_path: Path, request_id: str | None = None, members: tuple[str, ...] = ()) -> None:
        self._path = socket_path
        self._request_id = request_id
        self._members = members

    def health(self, deadline: float = 5.0) -> Health:
        """Who is there, and in what state."""
        return parse_health(self._json("GET", "/v1/health", deadline).value())

    # Runs

    def start(self, run_id: str, request: RunRequest, deadline: float = 10.0) -> str:
        """Start the run, once per id ever; "running" or "done"."""
        return protocol.parse_state(self._json("PUT", requests.run_target(run_id), deadline, request.encode()).value())

    def run(self, run_id: str, request: RunRequest, deadline: float | Patience) -> Iterator[Event]:
        """Start the run (or join it, if the id is known) and follow it to its result, the last event."""
        stream = protocol.EventStream(follow=True)
        return self._events("PUT", requests.run_target(run_id, follow=1), stream, deadline, request.encode())

    def attach(
        self, run_id: str, stdout: int = 0, stderr: int = 0, follow: bool = True, deadline: float = 10.0
    ) -> Iterator[Event]:
        """The run's events from these byte offsets: up to the result if `follow`, else those there are by now."""
        target = requests.run_target(run_id, follow=int(follow), stdout=stdout, stderr=stderr)
        return self._events("GET", target, protocol.EventStream(follow, stdout, stderr), deadline)

    def cancel(self, run_id: str, deadline: float = 5.0) -> None:
        """Ask for the end of the run. One that is done already is no error."""
        self._json("POST", requests.run_target(run_id, "/cancel"), deadline).value()

    def acknowledge(self, run_id: str, deadline: float = 5.0) -> None:
        """The result is safe: the executor may forget it."""
        self._json("DELETE", requests.run_target(run_id), deadline).value()

    # Files

    def list_files(
        self, prefix: str = "", recursive: bool = True, limit: int = PAGE, after: str = "", deadline: float = 10.0
    ) -> FilePage:
        """Up to `limit` of the workspace's regular files, those behind the file `after`."""
        target = requests.list_target(prefix, recursive, limit, after)
        return parse_files(self._json("GET", target, deadline).value())

    def every_file(self, prefix: str = "", most: int = 200_000) -> Iterator[FilePage]:
        """All of them, page by page. Raises `ExecutorProtocolError` beyond `most`: a list of a sandbox need not end."""
        after, count = "", 0
        while True:
            page = self.list_files(prefix, limit=PAGE, after=after)
            yield page
            count += len(page.files)
            if page.next is None:
                return
            if count > most or page.next == after:
                fields.wrong("a list without end")
            after = page.next

    def open_file(
        self, path: str, offset: int = 0, length: int | None = None, deadline: float = TRANSFER_TIME
    ) -> tuple[FileInfo, FileBody]:
        """A file (or part of it): what it is, and its bytes. Close the body, or read it to its end."""
        exchange = _Exchange(self._path, deadline, self._members)
        try:
            exchange.send(self._head("GET", requests.file_target(path, offset, length)))
            answer = protocol.Answer()
            body = b""
            while answer.head is None:
                body = answer.feed(exchange.receive_more())
            if answer.head.status != 200:
                _finish(exchange, protocol.JsonAnswer(answer.head, body)).value()
                fields.wrong(f"status {answer.head.status}")
            info = parse_file_info(answer.head)
            exchange.extend(info.length / SLOWEST)
            return info, FileBody(exchange, info.length, body)
        except BaseException:
            exchange.close()
            raise

    def put_file(self, path: str, chunks: Iterable[bytes]) -> int:
        """Write a file from its pieces; gives its size in bytes.

        Nothing is kept unless all of it arrives: if `chunks` raises, the connection is cut and the error goes on. An
        early refusal (a full disk, say) ends the transfer at once, as `ExecutorRefused`.
        """
        with self._sending(requests.file_target(path)) as upload:
            for chunk in chunks:
                upload.write(chunk)
            return fields.whole(upload.end(None), "size")

    def upload(self, extract: bool = False) -> Upload:
        """Begin to write a file, or to unpack an archive, whose path is told at the end."""
        return self._sending(requests.upload_target(extract))

    def _sending(self, target: str) -> Upload:
        exchange = _Exchange(self._path, TRANSFER_TIME, self._members)
        try:
            exchange.send(self._head("PUT", target, chunked=True))
        except BaseException:
            exchange.close()
            raise
        return Upload(exchange)

    def delete_file(self, path: str, deadline: float = 10.0) -> None:
        """Delete a regular file of the workspace."""
        self._json("DELETE", requests.file_target(path), deadline).value()

    # One exchange

    def _head(self, method: str, target: str, length: int | None = 0, chunked: bool = False) -> bytes:
        return requests.request_head(method, target, length=length, chunked=chunked, request_id=self._request_id)

    def _json(self, method: str, target: str, deadline: float, body: bytes = b"") -> protocol.JsonAnswer:
        with _Exchange(self._path, deadline, self._members) as exchange:
            exchange.send(self._head(method, target, len(body)) + body)
            return _finish(exchange, protocol.JsonAnswer())

    def _events(
        self, method: str, target: str, stream: protocol.EventStream, deadline: float | Patience, body: bytes = b""
    ) -> Iterator[Event]:
        # The request leaves now, not when the first event is asked for.
        patience = deadline if isinstance(deadline, Patience) else Patience(deadline, math.inf, deadline)
        exchange = _Exchange(self._path, patience.left, self._members)
        try:
            exchange.send(self._head(method, target, len(body)) + body)
        except BaseException:
            exchange.close()
            raise
        return _read_events(exchange, stream, patience)


class Upload:
    """Bytes on their way into a sandbox. A context manager: unless `file` or `archive` has answered, nothing of them is kept."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def write(self, data: bytes) -> None:
        """Send one piece. Raises `ExecutorRefused` once the other side has said that it takes no more."""
        if not data:
            return
        self._exchange.extend(len(data) / SLOWEST)
        if self._exchange.has_answer():
            self._refused()
        try:
            self._exchange.send(requests.encode_chunk(data))
        except _SendFailed:
            # It closed its end: what it had to say is still in our receive buffer.
            self._refused()

    def file(self, path: str) -> int:
        """The end: the file belongs there. Its size in bytes."""
        return fields.whole(self.end(path), "size")

    def archive(self, path: str) -> Unpacked:
        """The end: the archive belongs into that folder, which may be empty: the workspace itself."""
        return parse_unpacked(self.end(path))

    def end(self, path: str | None) -> dict[str, Any]:
        """The answer to all of it. `path` is for what was begun without one."""
        with contextlib.suppress(_SendFailed):
            self._exchange.send(requests.encode_end(path))
        return _finish(self._exchange, protocol.JsonAnswer()).value()

    def _refused(self) -> NoReturn:
        _finish(self._exchange, protocol.JsonAnswer()).value()
        fields.wrong("an answer before the end")

    def close(self) -> None:
        """Cut the connection."""
        self._exchange.close()

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class FileBody:
    """The bytes of a file, exactly as many as announced. An iterator and a context manager."""

    def __init__(self, exchange: _Exchange, length: int, first: bytes) -> None:
        self._exchange = exchange
        self._left = length
        self._next = first

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._left == 0:
            self.close()
            raise StopIteration
        try:
            data = self._next or self._exchange.receive_more()
            self._next = b""
            if len(data) > self._left:
                fields.wrong("more bytes than it announced")
        except BaseException:
            self.close()
            raise
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Cut the connection."""
        self._exchange.close()

    def __enter__(self) -> FileBody:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _read_events(exchange: _Exchange, stream: protocol.EventStream, patience: Patience) -> Iterator[Event]:
    with exchange:
        while stream.result is None:
            data = exchange.receive()
            if not data:
                stream.close()
                return
            for event in stream.feed(data):
                if isinstance(event, Started):
                    patience.started()
                    exchange.end = patience.end
                yield event


def _finish(exchange: _Exchange, answer: protocol.JsonAnswer) -> protocol.JsonAnswer:
    while not answer.done:
        answer.feed(exchange.receive_more())
    return answer


class _SendFailed(ExecutorUnavailable):
    """The other side takes no more bytes, but may have answered."""


class _Exchange:
    """One connection with one deadline for all that happens on it."""

    def __init__(self, path: Path, deadline: float, members: tuple[str, ...]) -> None:
        self.end = time.monotonic() + deadline  # by the monotonic clock
        self._socket = new_socket()
        try:
            self._connect(path)
            check_peer(self._socket, members)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, path: Path) -> None:
        # A Unix connect to a full backlog waits only on a blocking socket, and for as long as SO_SNDTIMEO says.
        left = self._left()
        timeval = struct.pack("@ll", int(left), int(left % 1 * 1e6) or 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        with pinned(path) as name:
            self._guard(lambda: self._socket.connect(name))

    def send(self, data: bytes) -> None:
        """Send all of it. Raises `_SendFailed` where the other side has closed its end."""
        self._socket.settimeout(self._left())
        try:
            self._guard(lambda: self._socket.sendall(data))
        except ExecutorUnavailable as error:
            if isinstance(error.__cause__, ConnectionError):
                raise _SendFailed(str(error)) from error.__cause__
            raise

    def receive(self) -> bytes:
        """What has arrived; `b""` at the end."""
        self._socket.settimeout(self._left())
        return self._guard(lambda: self._socket.recv(RECEIVE))

    def receive_more(self) -> bytes:
        """What has arrived, where an end would be too early."""
        data = self.receive()
        if not data:
            raise ExecutorUnavailable("The executor closed the connection in the middle of an answer.")
        return data

    def has_answer(self) -> bool:
        """Whether something has arrived (or the connection is closed)."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def extend(self, seconds: float) -> None:
        """There is more to do than was known: so much later is early enough."""
        self.end += seconds

    def close(self) -> None:
        """Cut the connection."""
        self._socket.close()

    def __enter__(self) -> _Exchange:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self.close()

    def _left(self) -> float:
        left = self.end - time.monotonic()
        if left <= 0:
            raise ExecutorUnavailable("The executor did not answer within the deadline.")
        return left

    @staticmethod
    def _guard(call: Callable[[], T]) -> T:
        try:
            return call()
        except (TimeoutError, BlockingIOError) as error:
            raise ExecutorUnavailable("The executor did not answer within the deadline.") from error
        except OSError as error:
            raise ExecutorUnavailable(f"The connection to the executor broke: {error}") from error
