"""Whether a run's code may begin is decided once: its process takes the request, or PID 1 takes it back. Never both.

The request is an anonymous file that both hold. Who takes it empties it under a record lock, which excludes the other process.
"""

from __future__ import annotations

import fcntl
import os


def take(fd: int) -> bytes:
    """The request; empty where it was taken already."""
    fcntl.lockf(fd, fcntl.LOCK_EX)
    try:
        content = os.pread(fd, os.fstat(fd).st_size, 0)
        os.ftruncate(fd, 0)
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)
    return content


def take_back(fd: int) -> bool:
    """For PID 1, which waits for nobody: True if no process has the request, or will ever have it."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # a process is at it
    try:
        untouched = os.fstat(fd).st_size > 0
        os.ftruncate(fd, 0)
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)
    return untouched
