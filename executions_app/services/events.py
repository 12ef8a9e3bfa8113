"""The events of an execution, live or afterwards, for Server-Sent Events.

An event's id is one number that grows and says all that is needed to resume: which attempt (of a run that was lost and tried again),
how many bytes of each stream came before its end, and the stage (pending, running, final status, result). The output itself is bytes;
text is cut at whole characters. A new attempt begins with `running` again, and its output at offset 0: what came before is void.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection

from executions_app.models import Execution, ExecutionStatus
from executions_app.serializers import StatusOut
from executions_app.services import drive
from executions_app.services.ending import KEPT
from executions_app.services.result import result_of
from runtime.drivers.errors import ExecutorError
from runtime.drivers.executor_client import Output
from sandbox_platform import wakeups
from sandbox_platform.prefer import retry_after
from sandbox_platform.renderers import JSONRenderer

# Seconds between comments that keep proxies and clients from giving up, and that tell us when the client has gone.
KEEP_ALIVE = 5.0
# Seconds until a sandbox is asked again that did not answer.
PAUSE = 0.2
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
PENDING, RUNNING, FINAL, RESULT = range(4)
BITS = 44


@dataclass
class Position:
    """How far a reader is."""

    stdout: int = 0
    stderr: int = 0
    stage: int = -1
    attempt: int = 1

    @classmethod
    def parse(cls, last_event_id: str) -> Position:
        """Where `Last-Event-ID` left off; the beginning if it is not one of ours."""
        if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 40):
            return cls()
        rest, stage = divmod(int(last_event_id), 4)
        rest, stderr = divmod(rest, 1 << BITS)
        earlier, stdout = divmod(rest, 1 << BITS)
        return cls(stdout, stderr, stage, earlier + 1) if earlier < drive.MAX_ATTEMPTS else cls()

    def is_last_of(self, execution: Execution) -> bool:
        """Whether nothing can follow any more."""
        return execution.done and self.stage == RESULT and self.attempt == execution.attempt

    def id(self) -> int:
        """Grows with every event."""
        return ((((self.attempt - 1 << BITS) + self.stdout) << BITS) + self.stderr) * 4 + max(self.stage, 0)


class Reader:
    """Walks one execution from a position to its result."""

    def __init__(self, execution: Execution, position: Position, may_wait: bool) -> None:
        self.execution, self.at, self.may_wait = execution, position, may_wait
        self._partial = {"stdout": b"", "stderr": b""}

    def events(self) -> Iterator[str]:
        """Frames of the event stream. Ends with the result; without a place to wait, with what is there by now."""
        yield f"retry: {retry_after()}000\n\n"
        while True:
            if self.at.attempt != self.execution.attempt:
                self.at = Position(attempt=self.execution.attempt)
            if self.execution.status != ExecutionStatus.PENDING:
                yield from self._stage(RUNNING, "running")
            else:
                yield from self._stage(PENDING, "pending")
            if self.execution.done:
                yield from self._stored()
                yield from self._stage(FINAL, self.execution.status)
                if self.at.stage < RESULT:
                    self.at.stage = RESULT
                    yield self._frame("result", result_of(self.execution))
                return
            pause = KEEP_ALIVE
            if self.execution.status == ExecutionStatus.RUNNING:
                pause = yield from self._live()
            if not self.may_wait:
                return
            self._await_change(pause)
            yield ": keep-alive\n\n"

    def _stage(self, stage: int, word: str) -> Iterator[str]:
        if self.at.stage < stage:
            self.at.stage = stage
            yield self._frame(
                "status", {**StatusOut(self.execution).data, "status": word, "attempt": self.execution.attempt}
            )

    def _live(self) -> Generator[str, None, float]:
        """From the executor, until the result or for KEEP_ALIVE seconds. Returns how long the row may be waited for then."""
        client = drive.client_of(self.execution)
        if client is None:
            return KEEP_ALIVE
        connection.close_if_unusable_or_obsolete()
        began, at = time.monotonic(), self.at
        try:
            for event in client.attach(
                self.execution.run_id, at.stdout, at.stderr, follow=self.may_wait, deadline=KEEP_ALIVE
            ):
                if isinstance(event, Output):
                    yield from self._output(event.stream, event.offset, event.data)
            return KEEP_ALIVE  # the result is told: soon it is stored
        except ExecutorError:
            # At the deadline it goes on at once, where it left off. Not there yet, or gone already: the row decides.
            return 0.0 if time.monotonic() - began >= KEEP_ALIVE else PAUSE
        finally:
            self._partial = {"stdout": b"", "stderr": b""}

    def _output(self, stream: str, offset: int, data: bytes, last: bool = False) -> Iterator[str]:
        seen = getattr(self.at, stream)
        if offset < seen:
            data = data[seen - offset :]
            offset = seen
        partial = self._partial[stream] if offset == seen + len(self._partial[stream]) else b""
        start, data = offset - len(partial), partial + data
        whole = data if last else data[: _whole_characters(data)]
        self._partial[stream] = data[len(whole) :]
        if whole:
            setattr(self.at, stream, start + len(whole))
            yield self._frame(stream, {"text": whole.decode("utf-8", "replace"), "offset": start})

    def _stored(self) -> Iterator[str]:
        """What the row keeps beyond the position."""
        for stream in ("stdout", "stderr"):
            data, omitted = bytes(getattr(self.execution, stream)), getattr(self.execution, f"{stream}_omitted")
            head = len(data) if not omitted else min(KEPT, len(data))
            seen = getattr(self.at, stream)
            if seen < head:
                yield from self._output(stream, seen, data[seen:head], last=True)
            if omitted:
                tail_start = head + omitted
                skip = max(0, getattr(self.at, stream) - tail_start)
                yield from self._output(stream, tail_start + skip, data[head + skip :], last=True)

    def _await_change(self, seconds: float) -> None:
        """Until the row has changed, or for so long; it is looked at in any case."""
        deadline = time.monotonic() + seconds
        before = (self.execution.status, self.execution.attempt)
        with wakeups.Waiter(self.execution.topic) as waiter:
            while True:
                self.execution = Execution.objects.select_related("session__container").get(pk=self.execution.pk)
                left = deadline - time.monotonic()
                now = (self.execution.status, self.execution.attempt)
                if self.execution.done or now != before or left <= 0:
                    return
                waiter.wait(min(left, 1.0))

    def _frame(self, event: str, data: Any) -> str:
        # What a run returned is passed on as it is, line breaks between its tokens included: each line is one of the frame.
        lines = _LINE_BREAK.split(JSONRenderer().render(data).decode())
        return "".join([f"id: {self.at.id()}\nevent: {event}\n", *(f"data: {line}\n" for line in lines), "\n"])


def _whole_characters(data: bytes) -> int:
    """How many of the bytes make up whole UTF-8 characters; what is not UTF-8 at all counts as whole."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return len(data) - len(decoder.getstate()[0])
