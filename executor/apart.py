"""Runs in a pid namespace and with a /proc of their own, where the kernel is gVisor's.

That kernel lets everybody read `environ` and `maps` of every process that /proc knows, and open what its descriptors lead to, and it
looks a process up under as many spellings as its number has (/proc/1, /proc/01): no mount hides one. So what is mounted at /proc is the
view of a namespace in which the executor and its helpers are not: runs are, and a first process that holds nothing and does nothing.

This takes two capabilities more than the executor has elsewhere, inside gVisor's kernel alone. The zygote uses them once, at its very
start, and refuses itself the calls from then on; PID 1 gives them up before it forks anything else. No run ever had them.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from executor import procfs
from executor.linux import PR_SET_DUMPABLE, drop_bounding, keep_capabilities, mount, prctl, refuse_calls, unshare_pids
from executor.log import log

CAPABILITIES = 0xE0
"""SETGID, SETUID, KILL: what stays, as everywhere."""
BORROWED = (21, 8)
"""SYS_ADMIN makes the namespace and mounts; SETPCAP, the last to go, takes both out of the bounding set."""
DONE = b"1"


def is_gvisor() -> bool:
    """Whether this is gVisor's kernel, by a file of its /proc: on Linux nothing can make one there but a mount, which is another device."""
    try:
        return os.stat("/proc/sentry-meminfo").st_dev == os.stat("/proc").st_dev
    except OSError:
        return False


def is_apart() -> bool:
    """Whether this process is unknown to what is mounted at /proc."""
    return not os.path.exists("/proc/self")


def enter() -> None:
    """From now on the children of this process are born in a namespace of their own, whose view is mounted at /proc. Raises OSError."""
    unshare_pids()
    read, write = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        _be_first(write)
    os.close(write)
    done = os.read(read, 1)
    os.close(read)
    give_up()
    refuse_calls("mount", "unshare")  # not PID 1, whose own filters are to be seen as the engine gave them
    if done != DONE or not is_apart():
        raise OSError("no pid namespace could be made for runs")


def give_up(capabilities: int = CAPABILITIES) -> None:
    """What was borrowed, for good: from this process and all that it will ever fork or start."""
    for number in BORROWED:
        drop_bounding(number)
    keep_capabilities(capabilities)


def _be_first(told: int) -> NoReturn:
    """The life of the namespace's first process: it inherits orphans, and buries them unseen."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        prctl(PR_SET_DUMPABLE, 0)
        mount("proc", "/proc")
        # For who looks under the plain name alone. Under another there is what each run's own entry shows too, and no descriptor.
        mount("tmpfs", "/proc/1", "mode=0000,size=4096")
        give_up(0)
        procfs.forget()
        os.write(told, DONE)
        os.closerange(0, 65536)
        while True:
            signal.pause()
    except BaseException as error:
        log("error", "no_namespace", error=repr(error))
    finally:
        os._exit(1)
