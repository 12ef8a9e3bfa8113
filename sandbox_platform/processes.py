"""Heartbeats: one row a process, written by one thread; and the observer that tells the dead from the slow."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import structlog
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from sandbox_platform.models import Process
from sandbox_platform.retention import delete_in_batches

log = structlog.get_logger(__name__)
BEAT_SECONDS = 1.5
# Beats between two looks at what else is asked for.
LOOK_EVERY = 2
EGRESS = "egress"
"""The kind of process that carries connections of sandboxes to the proxy."""

_own: tuple[int, uuid.UUID] | None = None
_lock = threading.Lock()
_looks: list[Callable[[uuid.UUID], None]] = []


def now_and_then(look: Callable[[uuid.UUID], None]) -> None:
    """Have `look` called with this process's id every few seconds, by the thread of its heartbeat: it must be quick."""
    _looks.append(look)


def own_id() -> uuid.UUID:
    """This process's row, made at the first call after a start or a fork. Raises DatabaseError."""
    global _own
    with _lock:
        if _own is None or _own[0] != os.getpid():
            row = Process.objects.create(kind=_kind(), host=socket.gethostname(), pid=os.getpid())
            _own = (os.getpid(), row.id)
            threading.Thread(target=_beat, args=(row.id,), name="heartbeat", daemon=True).start()
        return _own[1]


def retire() -> None:
    """Say that this process ends, so that nobody has to wait for its heartbeat to go stale."""
    if _own is not None and _own[0] == os.getpid():
        with suppress(DatabaseError):
            Process.objects.filter(pk=_own[1], dead_at=None).update(dead_at=timezone.now())


def running(kind: str) -> bool:
    """Whether a process of that kind (web, ticker, egress, worker:runs, ...) has a heartbeat."""
    return Process.objects.filter(kind=kind, dead_at=None).exists()


def _kind() -> str:
    name = os.environ.get("Q_CLUSTER_NAME")
    return f"worker:{name}" if name else os.path.basename(sys.argv[0])[:40]


def _beat(pk: uuid.UUID) -> None:
    for count in itertools.count(1):
        time.sleep(BEAT_SECONDS)
        try:
            alive = Process.objects.filter(pk=pk, dead_at=None).update(beats=F("beats") + 1)
            for look in _looks if alive and count % LOOK_EVERY == 0 else ():
                look(pk)
        except Exception as error:
            log.warning("heartbeat_failed", error=str(error))
            with suppress(Exception):
                connection.close()
            continue
        if not alive:
            # Declared dead while alive (suspended, say): its leases are lost. Begin again under a new id.
            global _own
            with _lock:
                if _own is not None and _own[1] == pk:
                    _own = None
            with suppress(Exception):
                connection.close()
            return


def _after_fork() -> None:
    global _own, _lock
    _own, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def forget_dead() -> None:
    """Rows of dead processes are kept for PROCESS_RETENTION seconds. A lease of one that has no row is a dead one's, too."""
    over = Now() - dt.timedelta(seconds=settings.PROCESS_RETENTION)
    delete_in_batches(Process.objects.filter(dead_at__lt=over))


class Observer:
    """Watches all heartbeats by its own monotonic clock. After an outage of the database it is time for a new one."""

    def __init__(self) -> None:
        self._seen: dict[uuid.UUID, tuple[int, float]] = {}
        self._looked_at = -math.inf

    def bury_the_dead(self) -> int:
        """Set `dead_at` on each process whose beats have not changed for PROCESS_STALE_AFTER seconds. How many died."""
        now, buried = time.monotonic(), 0
        if now - self._looked_at > max(settings.PROCESS_STALE_AFTER / 2, 2 * BEAT_SECONDS):
            self._seen = {}  # it was held up itself, perhaps by what held up all of them
        living = dict(Process.objects.filter(dead_at=None).values_list("id", "beats"))
        self._seen = {pk: seen for pk, seen in self._seen.items() if pk in living}
        for pk, beats in living.items():
            known = self._seen.get(pk)
            if known is None or known[0] != beats:
                self._seen[pk] = (beats, now)
            elif now - known[1] > settings.PROCESS_STALE_AFTER:
                buried += Process.objects.filter(pk=pk, beats=beats, dead_at=None).update(dead_at=timezone.now())
                log.warning("process_dead", process=str(pk))
        self._looked_at = time.monotonic()
        return buried
