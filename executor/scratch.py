"""Empties /tmp and /dev/shm: what a child of the zygote does, as one of the users."""

from __future__ import annotations

import contextlib
import errno
import os

FOLDERS = ("/tmp", "/dev/shm")  # noqa: S108
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOVED = ".sbx-wiped-"


def wipe() -> None:
    """Removes all that the calling process may remove, however deep, with two descriptors and no recursion."""
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            top = os.open(folder, FLAGS)
            try:
                _empty(top)
            finally:
                os.close(top)


def _empty(top: int) -> None:
    """Deep folders are moved up to the top, one level at a time, until all are flat."""
    counter = 0
    refused: set[str] = set()
    while names := [name for name in os.listdir(top) if name not in refused]:
        for name in names:
            if _remove(top, name):
                continue
            try:
                os.chmod(name, 0o700, dir_fd=top)
                fd = os.open(name, FLAGS, dir_fd=top)
            except OSError:
                refused.add(name)
                continue
            try:
                for child in os.listdir(fd):
                    if not _remove(fd, child):
                        counter += 1
                        _move_up(fd, child, top, f"{MOVED}{os.getpid()}-{counter}")
            finally:
                os.close(fd)
            if not _remove(top, name):
                refused.add(name)


def _remove(folder: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            return error.errno == errno.ENOENT
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError:
            return False
    return True


def _move_up(folder: int, name: str, top: int, new: str) -> None:
    with contextlib.suppress(OSError):
        os.chmod(name, 0o700, dir_fd=folder)  # moving a folder writes to it
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
