"""Helpers of PID 1 (the zygote, the file helper, the relay): how they are started, spoken to and replaced."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from executor import files, procfs, relay, zygote
from executor.cli import Options
from executor.linux import PR_SET_DUMPABLE, close_all_but, prctl, receive_message, send_message, seqpacket_pair
from executor.log import log
from executor.loop import READ, Loop
from executor.privileges import offer

RESTART_DELAY = 0.1  # seconds
# Thousandths of the sandbox's memory. A run that is killed for want of it may still hold it for a moment in which the kernel looks for
# another process: one that can be replaced, not PID 1, which is of much the same size.
OFFERED = 100
ROLES: dict[str, Callable[[Options, socket.socket], None]] = {
    "zygote": zygote.serve,
    "files": files.serve,
    "relay": relay.serve,
}


def serve_role(role: str, options: Options, fd: int) -> int:
    """The life of a helper process: it ends with PID 1's end of the socket."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        close_all_but({fd} | procfs.kept())
        offer(OFFERED)
        prctl(PR_SET_DUMPABLE, 0)
        os.chdir("/")
        ROLES[role](options, socket.socket(fileno=fd))
    except BaseException as error:
        log("error", "helper_failed", role=role, error=repr(error))
        return 1
    return 0


class Helper:
    """One helper as PID 1 sees it. `on_message(message)` gets what it says, `on_death()` tells that it was replaced.

    `on_sent(message)` hears what it was told.
    """

    def __init__(self, role: str, options: Options) -> None:
        self.role = role
        self.pid = 0
        self._options = options
        self._sock: socket.socket | None = None
        self._loop: Loop | None = None
        self.on_message: Callable[[dict[str, Any], list[int]], None] = lambda message, fds: None
        self.on_death: Callable[[], None] = lambda: None
        self.on_sent: Callable[[dict[str, Any]], None] = lambda message: None

    def start(self, fresh: bool = False) -> None:
        """Forks the helper. A `fresh` one also starts a new interpreter: by now PID 1 holds what users wrote."""
        ours, theirs = seqpacket_pair()
        pid = os.fork()
        if pid == 0:
            os._exit(self._become(theirs.detach(), fresh))
        theirs.close()
        ours.setblocking(False)
        self.pid, self._sock = pid, ours
        if self._loop is not None:
            self._loop.watch(ours, READ, self._readable)

    def _become(self, fd: int, fresh: bool) -> int:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if not fresh:
                return serve_role(self.role, self._options, fd)
            os.set_inheritable(fd, True)
            folder = os.path.dirname(os.path.abspath(__file__))
            inherited = [sys.executable, "-I", folder, *sys.argv[1:], "--role", self.role, "--fd", str(fd)]
            for kept in procfs.kept():
                os.set_inheritable(kept, True)
                inherited += ["--proc", str(kept)]
            os.execv(sys.executable, inherited)  # noqa: S606
        except BaseException as error:
            log("error", "helper_not_started", role=self.role, error=repr(error))
        return 1

    def await_first(self, seconds: float) -> None:
        """Waits for its first message, which tells no more than that it is there. Raises OSError where it does not come."""
        assert self._sock is not None
        self._sock.settimeout(seconds)
        if not self._sock.recv(1):
            raise OSError(f"the helper {self.role} ended at once")
        self._sock.setblocking(False)

    def attach(self, loop: Loop) -> None:
        self._loop = loop
        loop.watch(self._sock, READ, self._readable)

    @property
    def alive(self) -> bool:
        return self._sock is not None

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = (), tail: bytes = b"") -> bool:
        """False when the helper is gone or has too much to do already."""
        if self._sock is None:
            return False
        try:
            send_message(self._sock, message, fds, tail)
        except OSError as error:
            log("warning", "helper_unreachable", role=self.role, error=repr(error))
            return False
        self.on_sent(message)
        return True

    def _readable(self, _mask: int) -> None:
        for _ in range(64):
            if self._sock is None:
                return
            try:
                message, fds, _tail = receive_message(self._sock)
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, EOFError, ValueError):
                return self._lost()
            self.on_message(message, fds)

    def _lost(self) -> None:
        assert self._sock is not None
        assert self._loop is not None
        log("error", "helper_died", role=self.role, helper=self.pid)
        self._loop.unwatch(self._sock)
        self._sock.close()
        self._sock = None
        if self.role == "zygote" and self._options.apart:
            sys.exit(1)  # another one could not fork into the namespace that runs are in
        self.on_death()
        self._loop.later(RESTART_DELAY, self._restart)

    def _restart(self) -> None:
        assert self._loop is not None
        try:
            self.start(fresh=True)
        except OSError as error:  # no pid to be had at the moment
            log("warning", "helper_not_started", role=self.role, error=repr(error))
            self._loop.later(RESTART_DELAY, self._restart)
