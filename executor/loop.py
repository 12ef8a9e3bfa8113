"""The event loop of PID 1: descriptors, timers and SIGCHLD, in one thread."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from executor.log import log

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopping = False
        self.on_child: Callable[[], None] = lambda: None

    def catch_signals(self) -> None:
        """SIGTERM ends the loop, SIGCHLD calls `on_child`. Every other signal keeps its default, which PID 1 ignores."""
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self.watch(read, READ, lambda _mask: self._woken(read))

    def _woken(self, read: int) -> None:
        os.read(read, 4096)
        self.on_child()

    def watch(self, fd: Any, events: int, callback: Callable[[int], None]) -> None:
        """Calls `callback(mask)` while `fd` is ready for `events`; replaces an earlier watch of it."""
        try:
            self._selector.modify(fd, events, callback)
        except KeyError:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        while not self._stopping:
            for key, mask in self._selector.select(self._patience()):
                # An earlier callback of this round may have closed this one.
                if self._selector.get_map().get(key.fd) is key:
                    self._call(partial(key.data, mask))
            self._fire()

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _fire(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                self._call(callback)

    def _call(self, callback: Callable[[], None]) -> None:
        """One connection's or run's trouble must not end PID 1, and all the others with it."""
        try:
            callback()
        except Exception as error:
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place is not None else None
            log("error", "callback_failed", error=repr(error), where=where)
