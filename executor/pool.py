"""Threads for connections about files: a few at once, more while clients are slow, fewer again later."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable

from executor.log import log

READY = 4  # started at once: later there may be no pids left
MOST = 64  # each holds a pid of the sandbox while a client is slow
LINGER = 10.0  # seconds that a thread beyond those waits for more to do

Item = tuple  # (socket, the bytes that have been read of it)


class Pool:
    """Calls `work(socket, data)` for each connection, in a thread of its own as long as there are fewer than MOST."""

    def __init__(self, work: Callable[[socket.socket, bytes], None]) -> None:
        self._work = work
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._idle = self._threads = 0
        for _ in range(READY):
            self._start()

    def put(self, sock: socket.socket, data: bytes) -> None:
        """Never waits. Where no thread can be had, one of those that are at work will take it later."""
        with self._changed:
            self._items.append((sock, data))
            if len(self._items) > self._idle and self._threads < MOST:
                self._start()
            self._changed.notify()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._live, daemon=True).start()
        except RuntimeError as error:  # user code holds every pid
            log("warning", "no_thread", error=str(error))
        else:
            self._threads += 1

    def _next(self) -> Item | None:
        with self._changed:
            self._idle += 1
            try:
                while not self._items:
                    if not self._changed.wait(LINGER) and not self._items and self._threads > READY:
                        self._threads -= 1
                        return None
                return self._items.popleft()
            finally:
                self._idle -= 1

    def _live(self) -> None:
        while (item := self._next()) is not None:
            self._work(*item)
