"""What a run tells while it runs and at its end. Claims of the sandbox, checked for shape alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """The run began, at this time by the sandbox's clock (seconds since 1970)."""

    at: float


@dataclass(frozen=True)
class Output:
    """A piece of `stream` ("stdout" or "stderr").

    `offset` is where it stands in the whole stream, in bytes; a jump is a gap.
    """

    stream: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class RunError:
    """The exception that ended the run, with the user's own frames."""

    type: str
    message: str
    traceback: str | None


@dataclass(frozen=True)
class Artifact:
    """A workspace file that the run changed. `change` is "created" or "modified"."""

    path: str
    size: int
    change: str


@dataclass(frozen=True)
class Result:
    """How the run ended.

    `outcome` is one of the words in `executor/README.md`; `return_value` is JSON text, or None where there is none.
    """

    outcome: str
    exit_code: int | None
    return_value: str | None
    error: RunError | None
    duration_ms: float
    cpu_time_ms: float
    peak_memory_mb: float
    stdout_bytes: int
    stderr_bytes: int
    stdout_omitted: int
    stderr_omitted: int
    artifacts: tuple[Artifact, ...]
    artifacts_truncated: bool


Event = Started | Output | Result
