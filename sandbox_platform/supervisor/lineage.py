"""Processes and their parents: dying together, and seeing who is there."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which must be its parent, dies. Ends it at once if that has happened."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def children(pid: int) -> set[int] | None:
    """The ids of a process's children. None where the process is gone or the kernel does not tell."""
    found: set[int] = set()
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.update(map(int, (task / "children").read_text().split()))
    except OSError:
        return None
    return found


def group(pgid: int) -> set[int]:
    """The living members of a process group."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                state, _, group_id = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group_id) == pgid and state != "Z":
                    found.add(int(entry.name))
    return found
