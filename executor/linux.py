"""The few kernel interfaces that the standard library lacks: prctl, setfsuid, messages with descriptors, OOM counters."""

from __future__ import annotations

import array
import ctypes
import errno
import json
import os
import re
import socket
import stat
import struct
import time
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
_CPUCLOCK_SCHED = 2  # with the pid's complement, the clock that clock_getcpuclockid(3) gives
_CLONE_NEWPID = 0x20000000
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_CALLS = {"x86_64": {"mount": 165, "unshare": 272}, "aarch64": {"mount": 40, "unshare": 97}}
MADV_COLLAPSE = 25
HUGE_PAGE = 2 * 1024 * 1024
MAX_MESSAGE = 64 * 1024
MAX_FDS = 8

_OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def _check(answer: int) -> None:
    if answer != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def set_fs_ids(uid: int, gid: int) -> bool:
    """Makes file accesses alone count as `uid` and `gid`. False where the kernel (gVisor) has no such call."""
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))
    # Both calls return the previous value, never an error; an impossible id asks for the present one.
    return bool(_libc.setfsuid(ctypes.c_uint(0xFFFFFFFF)) == uid)


def keep_capabilities(bits: int) -> None:
    """Gives up what else root can do, for good. With 0 its files and its uid are all that stays."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)(bits, bits)))  # effective and permitted


def drop_bounding(capability: int) -> None:
    """Takes it out of the bounding set: not even a root program that is started later has it. Needs SETPCAP."""
    prctl(_PR_CAPBSET_DROP, capability)


def unshare_pids() -> None:
    """Children are born in a new pid namespace, the first of them as its first process. Needs SYS_ADMIN."""
    _check(_libc.unshare(_CLONE_NEWPID))


def mount(kind: str, target: str, options: str = "") -> None:
    """A new file system without programs, devices and set-user-id. Needs SYS_ADMIN."""
    _check(_libc.mount(kind.encode(), target.encode(), kind.encode(), _NOSUID | _NODEV | _NOEXEC, options.encode()))


def refuse_calls(*names: str) -> None:
    """For good, with EPERM, beyond what is refused already: to this process and all that it will fork."""
    numbers = [_CALLS[os.uname().machine][name] for name in names]
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    # Load the call's number; a jump to the last line for each; allow; refuse.
    lines = [(0x20, 0, 0, 0)]
    lines += [(0x15, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    lines += [(0x06, 0, 0, allow), (0x06, 0, 0, refuse)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    header = ctypes.create_string_buffer(struct.pack("HP", len(lines), ctypes.addressof(program)))
    _check(_libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), header))


def peer_pid(sock: socket.socket) -> int:
    """Who is at the other end of a Unix socket: 0 for one outside of the sandbox's pid namespace."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def private_file(content: bytes = b"") -> int:
    """An anonymous file: any size, no blocking, no path. Who sees its holder in /proc may not open it (gVisor would let everybody)."""
    fd = os.memfd_create("run")
    os.fchmod(fd, 0o600)
    if content:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
    return fd


def close_all_but(keep: set[int]) -> None:
    """Every descriptor but these, and the three that all programs have."""
    start = 3
    for fd in sorted(keep):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, 65536)


def listen_unix(path: str) -> socket.socket:
    """A listening socket at `path`, in place of an older one; who may enter its folder may connect."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)  # born with mode 0660: gVisor refuses to change the mode of a socket
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def seqpacket_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_message(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = (), tail: bytes = b"") -> None:
    """One packet: a JSON line, then raw bytes, with descriptors. Raises OSError (BlockingIOError when full)."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([json.dumps(message).encode() + b"\n", tail], ancillary)


def receive_message(sock: socket.socket) -> tuple[dict[str, Any], list[int], bytes]:
    """The counterpart of `send_message`. Raises EOFError when the other side is gone."""
    size = array.array("i").itemsize
    data, ancillary, _flags, _address = sock.recvmsg(2 * MAX_MESSAGE, socket.CMSG_SPACE(MAX_FDS * size))
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % size])
    if not data:
        raise EOFError
    head, _, tail = data.partition(b"\n")
    return json.loads(head), list(fds), tail


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used so far; 0 when it is gone, or where the kernel can't tell."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def collapse_memory() -> int:
    """Puts this process's own memory into huge pages where it can; how many there are.

    What it holds is then copied to a forked child, and given up at the child's end, by the entry for 2 MiB rather than for 4 KiB. Does
    nothing where the kernel has no such advice (before Linux 6.1, gVisor).
    """
    collapsed = 0
    with open("/proc/self/maps") as file:
        mappings = [line.split() for line in file]
    for where, mode, _, _, inode, *name in mappings:
        if inode != "0" or "w" not in mode or (name and name[0] != "[heap]"):
            continue
        start, end = (int(bound, 16) for bound in where.split("-"))
        for address in range(-(-start // HUGE_PAGE) * HUGE_PAGE, end - HUGE_PAGE + 1, HUGE_PAGE):
            collapsed += _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(HUGE_PAGE), MADV_COLLAPSE) == 0
    return collapsed


def oom_kills() -> int | None:
    """How many processes the memory cgroup of this sandbox has killed so far; None where that can't be read."""
    for path in _OOM_FILES:
        try:
            with open(path) as file:
                match = re.search(r"^oom_kill (\d+)$", file.read(), re.MULTILINE)
        except OSError:
            continue
        if match:
            return int(match.group(1))
    return None
