"""PID 1 opens to the shared group what a user's process made private to itself, with that user's own authority."""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager, nullcontext

from executor import procfs
from executor.cli import Options
from executor.privileges import acting_as

PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # type: ignore[attr-defined]
FOLDER_BITS = 0o2770
FILE_BITS = 0o660


def _as_owner(uid: int, options: Options) -> AbstractContextManager[None]:
    return acting_as(uid, options.user_uid) if uid in options.slot_uids else nullcontext()


def grant(segments: list[str], options: Options) -> bool:
    """Gives the group access to every folder of the path that a slot's user owns, and to the file at its end."""
    try:
        fd = os.open(options.workspace, PATH_FLAGS | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        for name in segments:
            with _as_owner(os.fstat(fd).st_uid, options):
                child = os.open(name, PATH_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = child
            _open_up(fd, options)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _open_up(fd: int, options: Options) -> None:
    info = os.fstat(fd)
    if stat.S_ISDIR(info.st_mode):
        bits = FOLDER_BITS
    elif stat.S_ISREG(info.st_mode):
        bits = FILE_BITS
    else:
        return
    if info.st_uid in options.slot_uids and info.st_mode & bits != bits:
        with _as_owner(info.st_uid, options):
            # A path descriptor can't be fchmod-ed; through /proc the mode of exactly this inode is changed.
            path, folder = procfs.place(f"self/fd/{fd}")
            os.chmod(path, stat.S_IMODE(info.st_mode) | bits, dir_fd=folder)
