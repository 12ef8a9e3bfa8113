"""What comes back from an executor, read strictly and without any I/O: heads, JSON bodies and event streams.

Whoever answers on the socket is treated as hostile. All that it sends is bounded, typed and checked field by field; the
first thing out of place raises `ExecutorProtocolError`. Both clients (`sync`, `aio`) only move bytes between a socket
and this file, `requests`, `file_values` and `health`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, cast

from runtime.drivers.errors import ExecutorRefused, ExecutorUnavailable
from runtime.drivers.executor_client import fields
from runtime.drivers.executor_client.events import Artifact, Event, Output, Result, RunError, Started
from runtime.drivers.types import MIB

MAX_HEAD = 16 * 1024
MAX_JSON = 16 * MIB
"""Of a JSON answer: a list of 10,000 files with names of 1 KiB fits."""
MAX_LINE = 8 * MIB
"""Of one event: a return value of 1 MiB (escaped, up to 3), with its traceback and its artifacts."""
MAX_KEPT = 16 * MIB
"""Of a stream that is not followed: what an executor keeps of one run. A live one has no end but its deadline."""
MAX_OUTPUT = MIB
"""Of the bytes in one stdout or stderr event."""
MAX_STREAM = 2**63 - 1
"""Of all the bytes of one stream, those left out included: what a database counts up to."""
MAX_RETURN_VALUE = MIB
MAX_TEXT = 256 * 1024
"""Of an error's type, message or traceback."""
MAX_ARTIFACTS = 20_000

OUTCOMES = frozenset({"ok", "exception", "timeout", "cancelled", "oom", "invalid_result", "output_limit", "lost"})

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [\x20-\x7e]*)?")
_HEADER = re.compile(rb"([A-Za-z0-9-]{1,64}):[ \t]*([\x20-\x7e]*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Head:
    """Status and headers (names in lower case) of an answer."""

    status: int
    headers: dict[str, str]

    def length(self) -> int | None:
        """The announced length of the body, None for "until the connection closes"."""
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not _LENGTH.fullmatch(text):
            fields.wrong("Content-Length is not a number")
        return int(text)


def parse_head(raw: bytes) -> Head:
    """Reads a head without its blank line. Strict: no folding, no repeated header, no transfer coding."""
    first, *rest = raw.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        fields.wrong("no HTTP/1.1 status line")
    headers: dict[str, str] = {}
    for line in rest:
        match = _HEADER.fullmatch(line)
        if match is None:
            fields.wrong("a malformed header")
        name = match[1].decode("ascii").lower()
        if name in headers:
            fields.wrong(f"the header {name} twice")
        headers[name] = match[2].decode("ascii")
    if "transfer-encoding" in headers or "content-encoding" in headers:
        fields.wrong("a coding that was not asked for")
    return Head(int(status[1]), headers)


class Answer:
    """Collects one answer as it arrives: the head first, then a body that the caller takes piece by piece."""

    def __init__(self, head: Head | None = None) -> None:
        self.head = head
        self._raw = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Takes what arrived; gives the bytes of the body among it (none as long as the head is incomplete)."""
        if self.head is not None:
            return data
        self._raw += data
        end = self._raw.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(self._raw) >= MAX_HEAD:
                fields.wrong("a head without end")
            return b""
        self.head = parse_head(bytes(self._raw[:end]))
        body = bytes(self._raw[end + 4 :])
        self._raw.clear()
        return body


class JsonAnswer:
    """A whole answer with a JSON body (or none). `done` once it is complete; then `value()` gives the object.

    `head` and `body` are what has been read of it already.
    """

    def __init__(self, head: Head | None = None, body: bytes = b"") -> None:
        self._answer = Answer(head)
        self._body = bytearray()
        self.done = False
        if head is not None:
            self.feed(body)

    @property
    def status(self) -> int:
        """The HTTP status. Valid once `done`."""
        return cast(Head, self._answer.head).status

    def feed(self, data: bytes) -> None:
        """Takes what arrived."""
        self._body += self._answer.feed(data)
        if self._answer.head is None:
            return
        length = self._answer.head.length()
        if length is None:
            if self._answer.head.status != 204:
                fields.wrong("an answer without a length")
            length = 0
        if length > MAX_JSON or len(self._body) > length:
            fields.wrong("a body larger than it may be")
        self.done = len(self._body) == length

    def value(self) -> dict[str, Any]:
        """The object in the body, `{}` where there is none. Raises `ExecutorRefused` for an answer that is an error."""
        value = fields.load_object(bytes(self._body)) if self._body else {}
        if self.status >= 400:
            raise ExecutorRefused(self.status, fields.text(value, "error", 64), fields.text(value, "message", MAX_TEXT))
        if not 200 <= self.status < 300:
            fields.wrong(f"status {self.status}")
        return value


class EventStream:
    """An answer that is an event stream: bytes in, checked events out, in an order that makes sense.

    `follow` says whether the stream must end with a result; without it, it may end between any two events. `stdout` and
    `stderr` are the offsets that were asked for: no event may begin before them or overlap the one before.
    """

    def __init__(self, follow: bool, stdout: int = 0, stderr: int = 0) -> None:
        self._answer = Answer()
        self._refusal: JsonAnswer | None = None
        self._line = bytearray()
        self._offsets = {"stdout": stdout, "stderr": stderr}
        self._follow = follow
        self._started = False
        self._received = 0
        self.result: Result | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Takes what arrived (not empty); gives the events that are complete. Raises `ExecutorRefused` for an error."""
        body = self._refusal_or_body(data)
        self._received += len(body)
        if self._received > MAX_KEPT and not self._follow:
            fields.wrong("more than an executor keeps")
        events: list[Event] = []
        while body:
            if self.result is not None:
                fields.wrong("something after the result")
            line, newline, body = body.partition(b"\n")
            self._line += line
            if len(self._line) > MAX_LINE:
                fields.wrong("an event without end")
            if newline:
                events.append(self._event(bytes(self._line)))
                self._line.clear()
        return events

    def close(self) -> None:
        """Says that the connection closed. Raises `ExecutorUnavailable` if that was too early."""
        if self._answer.head is None or self._line or self._refusal or (self._follow and self.result is None):
            raise ExecutorUnavailable("the executor closed the connection before the result")

    def _refusal_or_body(self, data: bytes) -> bytes:
        if self._refusal is not None:
            self._refusal.feed(data)
            return self._checked_refusal()
        fresh = self._answer.head is None
        body = self._answer.feed(data)
        head = self._answer.head
        if head is None or not fresh:
            return body
        if head.status >= 400:
            self._refusal = JsonAnswer(head, body)
            return self._checked_refusal()
        kind = head.headers.get("content-type", "").partition(";")[0].strip()
        if head.status not in (200, 201) or kind != "application/x-ndjson" or "content-length" in head.headers:
            fields.wrong("an answer that is no event stream")
        return body

    def _checked_refusal(self) -> bytes:
        if self._refusal is not None and self._refusal.done:
            self._refusal.value()
        return b""

    def _event(self, line: bytes) -> Event:
        value = fields.load_object(line)
        kind = value.pop("t", None)
        if kind == "started":
            if self._started:
                fields.wrong("started twice")
            self._started = True
            event: Event = Started(at=fields.number(value, "at"))
            fields.nothing_else(value)
            return event
        if kind in ("stdout", "stderr"):
            return self._output(kind, value)
        if kind == "result":
            self.result = parse_result(value)
            return self.result
        fields.wrong("an unknown event")

    def _output(self, stream: str, value: dict[str, Any]) -> Output:
        offset = fields.whole(value, "o")
        encoded = fields.text(value, "d", MAX_OUTPUT * 4 // 3 + 4)
        fields.nothing_else(value)
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            fields.wrong("output that is not base64")
        if offset < self._offsets[stream]:
            fields.wrong(f"{stream} that goes back")
        if offset + len(data) > MAX_STREAM:
            fields.wrong(f"{stream} of impossible length")
        self._offsets[stream] = offset + len(data)
        return Output(stream=stream, offset=offset, data=data)


def parse_result(value: dict[str, Any]) -> Result:
    """Reads the fields of a result event (without `t`), each by name and type; consumes `value`."""
    outcome = fields.text(value, "outcome", 32)
    if outcome not in OUTCOMES:
        fields.wrong("an unknown outcome")
    exit_code = fields.take(value, "exit_code")
    if exit_code is not None and (type(exit_code) is not int or not -(2**31) <= exit_code < 2**31):
        fields.wrong("exit_code is no exit code")
    returned = fields.optional_text(value, "return_value", MAX_RETURN_VALUE)
    if returned is not None:
        fields.check_json(returned)
    artifacts = tuple(_artifact(item) for item in fields.items(value, "artifacts", MAX_ARTIFACTS))
    result = Result(
        outcome=outcome,
        exit_code=exit_code,
        return_value=returned,
        error=_run_error(fields.take(value, "error")),
        duration_ms=fields.number(value, "duration_ms"),
        cpu_time_ms=fields.number(value, "cpu_time_ms"),
        peak_memory_mb=fields.number(value, "peak_memory_mb"),
        stdout_bytes=fields.whole(value, "stdout_bytes"),
        stderr_bytes=fields.whole(value, "stderr_bytes"),
        stdout_omitted=fields.whole(value, "stdout_omitted"),
        stderr_omitted=fields.whole(value, "stderr_omitted"),
        artifacts=artifacts,
        artifacts_truncated=fields.flag(value, "artifacts_truncated"),
    )
    fields.nothing_else(value)
    return result


def parse_state(value: dict[str, Any]) -> str:
    """The state of a run, "running" or "done"."""
    state = fields.text(value, "state", 16)
    if state not in ("running", "done"):
        fields.wrong("an unknown state")
    return state


def _run_error(value: object) -> RunError | None:
    if value is None:
        return None
    error = fields.mapping(value)
    found = RunError(
        type=fields.text(error, "type", MAX_TEXT),
        message=fields.text(error, "message", MAX_TEXT),
        traceback=fields.optional_text(error, "traceback", MAX_TEXT),
    )
    fields.nothing_else(error)
    return found


def _artifact(value: object) -> Artifact:
    item = fields.mapping(value)
    change = fields.text(item, "change", 16)
    if change not in ("created", "modified"):
        fields.wrong("an unknown change")
    artifact = Artifact(path=fields.path(item, "path"), size=fields.whole(item, "size"), change=change)
    fields.nothing_else(item)
    return artifact
