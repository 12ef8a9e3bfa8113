"""Connecting to a socket file that lies in a folder which the sandbox can write to."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.drivers.errors import ExecutorProtocolError, ExecutorUnavailable

# Of the kernel's include/linux/sched.h: in the flags of /proc/<pid>/stat (proc(5), field 9).
_PF_EXITING = 0x4


@contextmanager
def pinned(path: Path) -> Iterator[str]:
    """A name under which exactly the socket that was looked at can be connected to.

    The sandbox may swap the file for a symlink to another socket of the host at any moment, so it is opened without
    following, checked, and named by its descriptor. That also lifts the limit of 107 bytes on socket paths.
    """
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ExecutorUnavailable(f"no executor at {path}: {error.strerror}") from error
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise ExecutorProtocolError(f"{path} is not a socket.")
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def new_socket() -> socket.socket:
    """An unconnected Unix stream socket."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)


def check_peer(connection: socket.socket, members: tuple[str, ...]) -> None:
    """Raise `ExecutorProtocolError` unless whoever listens is in a cgroup whose path has one of these words in it.

    The words are a sandbox's ref and name: the cgroup has the one under Docker and the other under bubblewrap. Nothing
    can be told, and nothing is refused, from a pid namespace in which the peer has no number.
    """
    pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
    if pid == 0 or not members:
        return
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError as error:
        raise ExecutorUnavailable(f"Whoever listened is gone: {error}") from error
    if not any(word in groups for word in members):
        if _is_ending(pid):  # the kernel takes a process out of its cgroups before it closes its sockets
            raise ExecutorUnavailable("Whoever listened is about to end")
        raise ExecutorProtocolError("Whoever listens on the executor's socket is not in the sandbox.")


def _is_ending(pid: int) -> bool:
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return state in ("Z", "X") or bool(int(fields[5]) & _PF_EXITING)
