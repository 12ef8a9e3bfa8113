"""`manage.py ticker`: the clock of this installation. Any number may run; one is enough."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import structlog
from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection

from sandbox_platform import processes
from sandbox_platform.queue import Queue, depth, enqueue

log = structlog.get_logger(__name__)
TICK = 2.0
# Every so many ticks.
RECONCILE_EVERY = 2
IMAGES_EVERY = 5
SWEEP_EVERY = 300
PURGE_EVERY = 1800


class Command(BaseCommand):
    """Buries dead processes itself; the rest it enqueues, unless the queue is behind anyway."""

    help = "Drive expiry, probes and reconciliation."

    def handle(self, *args: Any, **options: Any) -> None:
        """Until SIGTERM or SIGINT."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        observer, count = processes.Observer(), 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                tick(observer, count)
            except (DatabaseError, InterfaceError) as error:
                log.warning("database_unavailable", error=str(error))
                connection.close()
                observer = processes.Observer()  # nobody could beat meanwhile
            count += 1
            stop.wait(max(0.0, TICK - (time.monotonic() - began)))
        processes.retire()


def tick(observer: processes.Observer, count: int) -> None:
    """One tick. `count` numbers them from 0: the first makes a whole pass."""
    processes.own_id()
    observer.bury_the_dead()
    if depth(Queue.RUNS) < 100:
        enqueue(Queue.RUNS, "executions_app.tasks.tick")
    if depth(Queue.LIFECYCLE) < 100:
        enqueue(Queue.LIFECYCLE, "sessions_app.tasks.tick")
        if count % RECONCILE_EVERY == 0:
            enqueue(Queue.LIFECYCLE, "runtime.tasks.reconcile")
        if count % IMAGES_EVERY == 0:
            enqueue(Queue.LIFECYCLE, "templates_app.tasks.tick")
        if count % SWEEP_EVERY == 0:
            enqueue(Queue.LIFECYCLE, "sessions_app.tasks.sweep_uploads")
        if count % PURGE_EVERY == 0:
            enqueue(Queue.LIFECYCLE, "sessions_app.tasks.purge")
            enqueue(Queue.LIFECYCLE, "runtime.tasks.purge")
