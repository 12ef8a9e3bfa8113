"""Waiting for the executor of a fresh sandbox."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from runtime.drivers.errors import BootFailed, ExecutorProtocolError, ExecutorRefused, ExecutorUnavailable
from runtime.drivers.executor_client import ExecutorClient, Health

PAUSE = 0.005
"""Seconds between two looks for the socket."""
ALIVE_EVERY = 0.5
"""Seconds between two questions to the engine whether there is still something to wait for."""
LOG_TAIL = 4096
"""Bytes of the log that a failed boot keeps."""


def wait_until_ready(
    socket: Path, member: str, deadline: float, alive: Callable[[], bool], log: Callable[[], str]
) -> Health:
    """The executor's health, once it is ready.

    Raises `BootFailed` at `deadline` (monotonic), or as soon as `alive` says no.
    """
    client = ExecutorClient(socket, members=(member,))
    asked = time.monotonic()
    why = "its executor never answered"
    while (now := time.monotonic()) < deadline:
        if socket.is_socket():
            try:
                health = client.health(deadline=deadline - now)
            except ExecutorUnavailable as error:
                why = str(error)
            except (ExecutorProtocolError, ExecutorRefused) as error:
                raise BootFailed(f"The executor answers wrongly: {error}", log()[-LOG_TAIL:]) from error
            else:
                if health.state == "ready":
                    return health
                why = "its executor is still starting"
        if time.monotonic() - asked > ALIVE_EVERY:
            if not alive():
                raise BootFailed("The sandbox ended before its executor was ready.", log()[-LOG_TAIL:])
            asked = time.monotonic()
        time.sleep(PAUSE)
    raise BootFailed(f"The sandbox was not ready in time: {why}.", log()[-LOG_TAIL:])
