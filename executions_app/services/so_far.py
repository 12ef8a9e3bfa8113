"""What a run that goes on has said by now, for people who look at it."""

from __future__ import annotations

from executions_app.models import Execution
from executions_app.services import drive
from runtime.drivers.errors import ExecutorError
from runtime.drivers.executor_client import Output

# Seconds that its sandbox is asked for.
PATIENCE = 2.0


def so_far(execution: Execution, most: int) -> dict[str, bytes]:
    """The first `most` bytes or so of stdout and stderr, from its sandbox. Less, or nothing, where that does not answer."""
    found = {"stdout": b"", "stderr": b""}
    client = drive.client_of(execution)
    if client is None:
        return found
    try:
        for event in client.attach(execution.run_id, follow=False, deadline=PATIENCE):
            if isinstance(event, Output) and len(found[event.stream]) < most:
                found[event.stream] += event.data
    except ExecutorError:
        pass  # it has only begun, or has just ended: the next look finds it
    return found
