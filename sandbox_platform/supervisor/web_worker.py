"""gunicorn's threaded worker, with threads that stay with their client for a while.

Else each request goes through the main thread, which waits for all connections: two more threads to wake, on the way of each answer.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

LINGER = 1.0  # seconds that a thread stays with its client at the most
SHARE = 8  # of so many threads one may wait thus, none of fewer: the others are for whoever comes


class Worker(ThreadWorker):
    """A connection that stays silent goes back to the main thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seats = threading.Semaphore(self.cfg.threads // SHARE)

    def handle(self, conn: Any) -> tuple[bool, Any]:
        """Serve it, and what its client asks next. Whether the connection is to be kept, and the connection."""
        keep, conn = super().handle(conn)
        until = time.monotonic() + LINGER
        while keep and self._more(conn.sock, until):
            keep, conn = super().handle(conn)
        return keep, conn

    def _more(self, sock: socket.socket, until: float) -> bool:
        """Whether the client says something by then (or leaves), and nobody else waits for a thread."""
        left = until - time.monotonic()
        if (
            left <= 0
            or not self.alive
            or len(self.futures) > self.cfg.threads
            or not self._seats.acquire(blocking=False)
        ):
            return False
        try:
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return bool(poll.poll(left * 1000))
        finally:
            self._seats.release()
