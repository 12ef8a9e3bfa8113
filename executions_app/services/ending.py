"""How an execution ends: the executor's claims and our facts in, the final columns out. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from executions_app.models import ExecutionStatus
from runtime.drivers.executor_client import Event, Output, Result

# Of each stream the first and the last 512 KiB are kept.
KEPT = 512 * 1024


class Kept:
    """One output stream, bounded: its head, its tail, and the count of what lay between."""

    def __init__(self) -> None:
        self._head, self._tail = bytearray(), deque[bytes]()
        self._tail_size, self._end = 0, 0

    def add(self, offset: int, data: bytes) -> None:
        """A piece that begins at `offset` of the whole stream. Pieces come in order and may leave gaps."""
        self._end = offset + len(data)
        room = KEPT - len(self._head) if offset <= KEPT else 0
        self._head += data[:room]
        if rest := data[room:]:
            self._tail.append(rest)
            self._tail_size += len(rest)
            while self._tail_size - len(self._tail[0]) >= KEPT:
                self._tail_size -= len(self._tail.popleft())

    def value(self) -> bytes:
        """Head and tail."""
        return bytes(self._head) + b"".join(self._tail)[-KEPT:]

    def omitted(self, total: int | None = None) -> int:
        """Bytes left out of `total` (of what was seen, where that is unknown)."""
        return max(0, (self._end if total is None else total) - len(self.value()))


@dataclass
class Collected:
    """What a run has said so far."""

    stdout: Kept = field(default_factory=Kept)
    stderr: Kept = field(default_factory=Kept)
    result: Result | None = None

    def add(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Output():
                (self.stdout if event.stream == "stdout" else self.stderr).add(event.offset, event.data)
            case Result():
                self.result = event

    @property
    def said_something(self) -> bool:
        """Whether there is any output."""
        return bool(self.stdout.value() or self.stderr.value())

    def output(self) -> dict[str, Any]:
        """The output columns."""
        result = self.result
        return {
            "stdout": self.stdout.value(),
            "stderr": self.stderr.value(),
            "stdout_omitted": self.stdout.omitted(result.stdout_bytes if result else None),
            "stderr_omitted": self.stderr.omitted(result.stderr_bytes if result else None),
        }


@dataclass(frozen=True)
class Ending:
    """The final status and the columns that go with it."""

    status: ExecutionStatus
    values: dict[str, Any]


CODES = {
    "exception": "ExecException",
    "timeout": "ExecTimeout",
    "cancelled": "ExecCancelled",
    "oom": "ExecOutOfMemory",
    "invalid_result": "ExecInvalidResult",
    "output_limit": "ExecOutputLimit",
    "lost": "ExecLost",
    "session_ended": "SessionEnded",
}
MESSAGES = {
    "timeout": "The run was killed at its time-out",
    "cancelled": "The run was cancelled",
    "oom": "The run was killed for want of memory",
    "invalid_result": "The handler gave no valid JSON result",
    "output_limit": "The return value is larger than 1 MiB",
    "lost": "The run was lost",
    "session_ended": "The session ended first",
}


def error(outcome: str, message: str = "", kind: str = "", traceback: str | None = None) -> dict[str, Any]:
    """The `error` of a result."""
    return {
        "error_code": f"Sandbox.{CODES[outcome]}",
        "type": kind or CODES[outcome],
        "message": message or MESSAGES.get(outcome, ""),
        "traceback": traceback,
    }


def of_result(collected: Collected, session_ended: bool) -> Ending:
    """The ending that the executor told of. `session_ended`: a cancelled run was cancelled because of that."""
    result = collected.result
    if result is None:
        raise ValueError("the run has no result yet")
    outcome = "session_ended" if result.outcome == "cancelled" and session_ended else result.outcome
    values: dict[str, Any] = {
        **collected.output(),
        "exit_code": result.exit_code,
        "return_value": result.return_value,
        "duration_ms": result.duration_ms,
        "cpu_time_ms": result.cpu_time_ms,
        "peak_memory_mb": result.peak_memory_mb,
        "artifacts": [
            {"path": a.path, "size": a.size, "change": a.change} for a in result.artifacts if "\0" not in a.path
        ],
        "artifacts_truncated": result.artifacts_truncated,
    }
    if outcome == "ok":
        return Ending(ExecutionStatus.COMPLETED, values)
    told = result.error
    if told:
        values["error"] = _clean(error(outcome, told.message, told.type, told.traceback))
    elif outcome == "exception":
        values["error"] = error(outcome, _exit_words(result.exit_code), "ExitCode")
    else:
        values["error"] = error(outcome)
    return Ending(ExecutionStatus.TIMEOUT if outcome == "timeout" else ExecutionStatus.FAILED, values)


def without_result(collected: Collected | None, outcome: str, message: str = "") -> Ending:
    """The ending of a run whose executor told none: what it printed so far is kept, here or in its row."""
    values = collected.output() if collected and collected.said_something else {}
    status = ExecutionStatus.TIMEOUT if outcome == "timeout" else ExecutionStatus.FAILED
    return Ending(status, {**values, "error": error(outcome, message)})


def _exit_words(code: int | None) -> str:
    if code is not None and code > 128:
        return f"The process was ended by signal {code - 128}"
    return f"The process exited with code {code}"


def _clean(value: dict[str, Any]) -> dict[str, Any]:
    """No database takes NUL in JSON or text."""
    return {key: item.replace("\0", "\ufffd") if isinstance(item, str) else item for key, item in value.items()}
