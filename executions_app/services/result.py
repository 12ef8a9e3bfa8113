"""A result as the API shows it: from the row once it is final, with the sandbox's help before."""

from __future__ import annotations

from typing import Any

from executions_app.models import Execution, ExecutionStatus
from executions_app.serializers import RunOut, as_text, stored_word
from executions_app.services import drive
from executions_app.services.ending import Collected
from runtime.drivers.errors import ExecutorError
from sandbox_platform.renderers import RawJSON
from sessions_app.services.workspace import mime_type

# Seconds that a look at a running execution's output may take.
LOOK = 2.0
NO_ENDING = dict.fromkeys(
    ("exit_code", "execution_time", "return_value", "metrics", "artifacts", "artifacts_truncated", "error")
)


def result_of(execution: Execution) -> dict[str, Any]:
    """In the shape of /result. `execution` has its session and container selected."""
    return {"execution_id": execution.pk, "status": stored_word(execution.status), **_outcome(execution)}


def all_of(execution: Execution) -> dict[str, Any]:
    """What was submitted, how it stands in the stored words, and what it came to."""
    return {**RunOut(execution).data, **_outcome(execution)}


def _outcome(execution: Execution) -> dict[str, Any]:
    """Before the end, null in all but the output."""
    output = _output_so_far(execution) if execution.status == ExecutionStatus.RUNNING else _stored_output(execution)
    return {
        "stdout": as_text(output["stdout"]),
        "stderr": as_text(output["stderr"]),
        "stdout_truncated": output["stdout_omitted"] > 0,
        "stderr_truncated": output["stderr_omitted"] > 0,
        "stdout_omitted_bytes": output["stdout_omitted"],
        "stderr_omitted_bytes": output["stderr_omitted"],
        **(_ending(execution) if execution.done else NO_ENDING),
    }


def _ending(execution: Execution) -> dict[str, Any]:
    took = execution.duration_ms
    return {
        "exit_code": execution.exit_code,
        "execution_time": None if took is None else round(took / 1000, 6),
        "return_value": None if execution.return_value is None else RawJSON(execution.return_value),
        "metrics": None if took is None else _metrics(execution),
        "artifacts": [{**artifact, "mime_type": mime_type(artifact["path"])} for artifact in execution.artifacts],
        "artifacts_truncated": execution.artifacts_truncated,
        "error": execution.error,
    }


def _metrics(execution: Execution) -> dict[str, float | None]:
    return {
        "duration_ms": execution.duration_ms,
        "cpu_time_ms": execution.cpu_time_ms,
        "peak_memory_mb": execution.peak_memory_mb,
    }


def _stored_output(execution: Execution) -> dict[str, Any]:
    return {name: getattr(execution, name) for name in ("stdout", "stderr", "stdout_omitted", "stderr_omitted")}


def _output_so_far(execution: Execution) -> dict[str, Any]:
    """Asked of the executor; nothing where it does not answer in time: the end will tell."""
    collected, client = Collected(), drive.client_of(execution)
    if client is not None:
        try:
            for event in client.attach(execution.run_id, follow=False, deadline=LOOK):
                collected.add(event)
        except ExecutorError:
            pass
    return collected.output()
