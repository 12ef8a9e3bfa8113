"""The zygote's child that waits for a run, as PID 1 sees it: PID 1 hands it the run itself, and the zygote need not wake for it."""

from __future__ import annotations

import socket
from typing import Any

from executor.cli import Options
from executor.helper import Helper
from executor.linux import cpu_seconds, send_message
from executor.loop import Loop, Timer
from executor.runs import Run

# Seconds until the zygote hears that its child has a run, and forks the next. That would hold up the telling of a short run's end.
TAKEN_AFTER = 0.025


class Waiting:
    """At most one waits. It ends when this end of its socket closes: the zygote has none."""

    def __init__(self, loop: Loop, options: Options, zygote: Helper) -> None:
        self._loop, self._zygote = loop, zygote
        self._apart = options.apart
        self._asked = 0  # runs that the zygote was asked to fork for
        self._pid = 0
        self._sock: socket.socket | None = None
        self._untold: tuple[int, Timer] | None = None
        zygote.on_sent = self._sent

    def _sent(self, message: dict[str, Any]) -> None:
        """Where runs see each other in /proc none may see a child that waits: the zygote ends it before it forks for a run."""
        if self._apart and asks_for_run(message):
            self._asked += 1
            self.forget()

    def came(self, pid: int, fd: int, asked: int) -> None:
        """It waits at the other end of `fd`, forked when the zygote had been asked so often."""
        sock = socket.socket(fileno=fd)
        if self._apart and asked != self._asked:  # it is being ended
            return sock.close()
        self.forget()
        sock.setblocking(False)
        sock.set_inheritable(False)
        self._pid, self._sock = pid, sock

    def forget(self) -> None:
        """Its zygote has died, or it has itself."""
        if self._sock is not None:
            self._sock.close()
        self._pid, self._sock = 0, None

    def ended(self, pid: int) -> None:
        """That process is no more."""
        if pid == self._pid:
            self.forget()

    def give(self, run: Run, message: dict[str, Any], fds: tuple[int, ...]) -> int:
        """Hands it the run; its pid. 0 where none waits."""
        if self._sock is None:
            return 0
        pid, sock = self._pid, self._sock
        self._pid, self._sock = 0, None
        with sock:
            spent = cpu_seconds(pid)
            try:
                send_message(sock, message, fds)
            except OSError:
                return 0
        run.cpu = -spent  # what it has done before is not the user's
        self._untold = (pid, self._loop.later(TAKEN_AFTER, self.tell))
        if self._apart:  # before the zygote hears of another run, or it would end this one
            self.tell()
        return pid

    def tell(self) -> None:
        """The zygote what it does not know yet."""
        if self._untold is not None:
            pid, timer = self._untold
            timer.cancel()
            self._untold = None
            self._zygote.send({"taken": pid})


def asks_for_run(message: dict[str, Any]) -> bool:
    """Whether the zygote is asked to fork for a user's code."""
    return "run" in message and message["language"] != "wipe"
