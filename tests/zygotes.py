"""The process that forks runs' processes, from outside of the sandbox."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path


def stop(pid: int) -> None:
    """The zygote `pid` does nothing from now on, and no child of it waits for a run."""
    os.kill(pid, signal.SIGSTOP)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        kill(int(child))


def kill(pid: int) -> None:
    """And wait until it is dead."""
    process = os.pidfd_open(pid)
    signal.pidfd_send_signal(process, signal.SIGKILL)
    select.select([process], [], [])
    os.close(process)
