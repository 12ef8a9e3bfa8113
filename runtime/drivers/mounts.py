"""Mounting and unmounting on the host, by system calls: both take well under a millisecond."""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path

from runtime.drivers.errors import NoCapacity

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
BUSY_TIMEOUT = 1.0
"""Seconds that a process which was just killed may hold a mount."""
PAUSE = 0.01


def tmpfs(target: Path, size: int, inodes: int, mode: int, uid: int = 0, executable: bool = False) -> None:
    """Mount a file system in memory, of `size` bytes and so many files, owned by `uid` and the gid of that number."""
    flags = MS_NOSUID | MS_NODEV | (0 if executable else MS_NOEXEC)
    options = f"size={size},nr_inodes={inodes},mode={mode:o},uid={uid},gid={uid}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", ctypes.c_ulong(flags), options.encode()) != 0:
        raise NoCapacity(f"no tmpfs at {target}: {os.strerror(ctypes.get_errno())}")


def unmount(target: Path) -> None:
    """Unmount it; what stays busy is detached, and goes with its last user."""
    libc = ctypes.CDLL(None, use_errno=True)
    end = time.monotonic() + BUSY_TIMEOUT
    while libc.umount2(os.fsencode(target), UMOUNT_NOFOLLOW) != 0:
        if time.monotonic() > end:
            libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW)
            return
        time.sleep(PAUSE)


def below(folder: Path) -> list[tuple[Path, str]]:
    """The mounts in that folder as (target, type), the latest first."""
    found = []
    with open("/proc/self/mountinfo") as table:
        for line in table:
            before, _, after = line.partition(" - ")
            target = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4]))
            if target.is_relative_to(folder):
                found.append((target, after.split()[0]))
    return found[::-1]
