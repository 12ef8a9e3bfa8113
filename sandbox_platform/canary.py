"""Proof that a queue's workers work: a task that does nothing but say so."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from django.db import DatabaseError, close_old_connections
from django_q.models import OrmQ

from sandbox_platform import processes, wakeups
from sandbox_platform.queue import Queue, enqueue

log = structlog.get_logger(__name__)
# Seconds between two canaries of a queue that answers.
EVERY = 10.0


def sing(queue: str) -> None:
    """The task. It also gives the worker its heartbeat, by which it is known to be there."""
    processes.own_id()
    wakeups.publish(_topic(queue))


def _topic(queue: str) -> str:
    return f"canary:{queue}"


class Canary:
    """Watches one queue. `patience` in seconds; `busy` says that the workers have good reason to be silent."""

    def __init__(
        self,
        queue: Queue,
        patience: float,
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self.patience, self.busy, self.clock = queue, patience, busy, clock
        self._waiter = wakeups.Waiter(_topic(queue))
        self._waiter.__enter__()
        self._head: int | None = None
        self.reset()

    def reset(self) -> None:
        """The queue's workers were started anew."""
        self._sent_at, self._outstanding, self._missed = -EVERY, False, 0

    def wedged(self) -> bool:
        """True once two canaries in a row were not heard for `patience` seconds each while nothing else moved."""
        now = self.clock()
        if self._waiter.wait(0):
            self._outstanding, self._missed = False, 0
        try:
            return self._look(now)
        except DatabaseError as error:
            log.warning("canary_failed", queue=str(self.queue), error=str(error))
            close_old_connections()
            self._outstanding = False  # nothing can be known
            return False

    def _look(self, now: float) -> bool:
        if now - self._sent_at < (self.patience if self._outstanding else EVERY):
            return False
        if self._outstanding:
            head = OrmQ.objects.filter(key=str(self.queue)).order_by("id").values_list("id", flat=True).first()
            moved, self._head = head != self._head, head
            self._missed = 0 if moved or self.busy() else self._missed + 1
            if self._missed >= 2:
                return True
        enqueue(self.queue, "sandbox_platform.canary.sing", str(self.queue))
        self._sent_at, self._outstanding = now, True
        return False
