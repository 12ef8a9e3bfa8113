"""Has the scratch folders emptied whenever no run is active."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from executor.helper import Helper
from executor.log import log
from executor.loop import Loop, Timer
from executor.scratch import FOLDERS

PATIENCE = 5.0  # seconds for one user's leftovers; runs that have come meanwhile wait for it
BURIAL = 1.0  # seconds until the end of one that was killed is told


def listing() -> set[str]:
    """What there is, at the top of each folder."""
    found = set()
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            found |= {f"{folder}/{name}" for name in os.listdir(folder)}
    return found


class Wiper:
    """PID 1's side: has the zygote fork a child as each user that ran, one after the other, until all is gone."""

    def __init__(self, loop: Loop, zygote: Helper, keys: itertools.count[int]) -> None:
        self._loop, self._zygote, self._keys = loop, zygote, keys
        self._original = listing()
        self._steps: list[int] = []
        self._waiting: list[Callable[[], None]] = []
        self._timer: Timer | None = None
        self._key = self._pid = 0
        self._given_up: set[int] = set()  # keys of those whose process the zygote has not named yet
        self.busy = False

    def start(self, uids: list[int]) -> None:
        """Folders of one user within another's may take a second round."""
        self._steps = uids + uids
        self.busy = True
        self._next()

    def then(self, callback: Callable[[], None]) -> None:
        self._waiting.append(callback)

    def says(self, message: dict[str, Any]) -> None:
        if message.get("run") in self._given_up:
            self._given_up.remove(message["run"])
            _kill(message.get("pid", 0))
        elif self.busy and message.get("run") == self._key:
            self._pid = message.get("pid", 0)
            if not self._pid:
                self._next()

    def ended(self, pid: int) -> None:
        if self.busy and pid == self._pid:
            self._next()

    def _next(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._key, self._pid = next(self._keys), 0
        if self._steps and not listing() <= self._original:
            message = {"run": self._key, "uid": self._steps.pop(0), "language": "wipe"}
            if self._zygote.send(message):
                self._timer = self._loop.later(PATIENCE, self._give_up)
                return
        self._done()

    def _give_up(self) -> None:
        """Nothing that wipes as a user may live on into that user's next run. Only this process is ended: an idle node has the same uid."""
        log("error", "wipe_takes_too_long")
        self._steps = []
        if self._pid:
            _kill(self._pid)
            self._timer = self._loop.later(BURIAL, self._next)
        else:  # the zygote starts it before any run that comes now
            self._given_up.add(self._key)
            self._next()

    def _done(self) -> None:
        self.busy = False
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()


def _kill(pid: int) -> None:
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
