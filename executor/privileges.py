"""Becoming the user, and ending everything a user runs."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from executor import procfs
from executor.linux import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, prctl, set_fs_ids

NOFILE = 1024
SMALLEST_UID = 1000


def become_user(uid: int, gid: int) -> None:
    """Gives up root for good. The caller is a fresh child that holds nothing secret."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.umask(0o002)


def confine() -> None:
    """What a process of user code gets, whoever the user will be: a session and limits of its own, first in line for the OOM killer."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    nofile = NOFILE if hard == resource.RLIM_INFINITY else min(NOFILE, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
    offer(1000)


def offer(more: int) -> None:
    """Where memory is short the kernel is to take this process rather than those it comes from, by so many thousandths of the limit."""
    try:
        score = int(procfs.read("self/oom_score_adj")) + more
        procfs.write("self/oom_score_adj", str(min(score, 1000)))
    except OSError:
        pass  # a read-only /proc: the kernel then weighs by size alone


def become(uid: int, gid: int) -> None:
    """The user for good, in a confined process."""
    become_user(uid, gid)
    # A change of uid makes a process undumpable, and then /dev/stdout and /proc/self can't be opened by itself.
    prctl(PR_SET_DUMPABLE, 1)


def limit_address_space(beyond: int) -> None:
    """So many bytes more than this process has now, for it and each of its children: where the kernel has no limit for all together."""
    mapped = int(procfs.read("self/statm").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + beyond, resource.RLIM_INFINITY))


def unlimit_address_space() -> None:
    """For a program that maps far more than it uses, as V8 does."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """File accesses and new files as another user. Where the kernel can, signals and priorities stay root's."""
    apart = set_fs_ids(uid, gid)
    if not apart:
        os.setegid(gid)
        os.seteuid(uid)
    try:
        yield
    finally:
        if apart:
            set_fs_ids(0, 0)
        else:
            os.seteuid(0)
            os.setegid(0)
        prctl(PR_SET_DUMPABLE, 0)


def kill_user(uid: int) -> None:
    """Sends SIGKILL to every process of `uid` in this pid namespace: atomic, no fork, nobody else is hit.

    While PID 1 wears that uid the user may signal it too. Only SIGTERM has a handler; it is held back meanwhile, and
    dropped unless it came from outside of the sandbox (which shows as pid 0).
    """
    if os.getpid() != 1 or uid < SMALLEST_UID:
        raise RuntimeError("the sweep is for PID 1 of a sandbox, against an unprivileged user")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        os.setresuid(uid, uid, 0)
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.setresuid(0, 0, 0)
            prctl(PR_SET_DUMPABLE, 0)
        if signal.SIGTERM in signal.sigpending():
            info = signal.sigtimedwait([signal.SIGTERM], 0)
            if info is not None and info.si_pid == 0:
                os.kill(1, signal.SIGTERM)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def kill_known(uid: int) -> list[int]:
    """Sends SIGKILL to the processes of `uid` that can be seen, and gives them; one that forks fast may escape, see `kill_user`."""
    found = processes_of(uid)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def processes_of(uid: int) -> list[int]:
    """The pids that run as `uid`, zombies included."""
    return [pid for pid in procfs.pids() if procfs.owner(pid) == uid]
