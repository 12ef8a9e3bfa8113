"""Wake what waits, in every process of this installation, without polling.

`publish("session:sess_1")` wakes every thread that is inside `Waiter("session:sess_1").wait()`. Beside PostgreSQL it is NOTIFY and one
LISTEN connection a process; beside SQLite a datagram to each process's socket in the state folder. A wake-up is a hint:
whoever wakes looks at the rows, and looks again now and then without one.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import structlog
from django.conf import settings
from django.db import connection, transaction

log = structlog.get_logger(__name__)
CHANNEL = "sandbox_wakeups"


class Waiter:
    """Waits for one topic. Made before looking at the rows, so that nothing is missed in between."""

    def __init__(self, topic: str) -> None:
        self.topic, self.event = topic, threading.Event()

    def __enter__(self) -> Waiter:
        _listener().add(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _listener().discard(self)

    def wait(self, seconds: float) -> bool:
        """True when woken. Ready to wait again afterwards."""
        woken = self.event.wait(max(0.0, seconds))
        self.event.clear()
        return woken


def publish(topic: str) -> None:
    """Wake the topic's waiters once the current transaction is committed."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:  # NOTIFY takes effect on commit by itself
            cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, topic])
    else:
        transaction.on_commit(lambda: _send_datagrams(topic))


def _folder() -> Path:
    return Path(settings.STATE_DIR) / "wake"


def _send_datagrams(topic: str) -> None:
    data = topic.encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        for path in _folder().glob("*.sock"):
            try:
                sender.sendto(data, str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)  # its process is gone
            except OSError as error:
                log.debug(
                    "wakeup_not_sent", path=path.name, error=str(error)
                )  # a full buffer: the waiter looks again by itself


class _Listener:
    """The one thread of a process that hears topics and wakes waiters."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.waiters: dict[str, set[Waiter]] = defaultdict(set)
        self.lock = threading.Lock()
        self.vendor = connection.vendor
        self.parameters = _postgres_parameters() if self.vendor == "postgresql" else {}
        self.ready = threading.Event()
        threading.Thread(target=self._run, name="wakeups", daemon=True).start()
        self.ready.wait(2)

    def add(self, waiter: Waiter) -> None:
        with self.lock:
            self.waiters[waiter.topic].add(waiter)

    def discard(self, waiter: Waiter) -> None:
        with self.lock:
            self.waiters[waiter.topic].discard(waiter)
            if not self.waiters[waiter.topic]:
                del self.waiters[waiter.topic]

    def _wake(self, topic: str) -> None:
        with self.lock:
            for waiter in self.waiters.get(topic, ()):
                waiter.event.set()

    def _wake_all(self) -> None:
        with self.lock:
            for waiters in self.waiters.values():
                for waiter in waiters:
                    waiter.event.set()

    def _run(self) -> None:
        hear = self._hear_postgres if self.vendor == "postgresql" else self._hear_datagrams
        while True:
            try:
                hear()
            except Exception as error:
                log.warning("wakeups_interrupted", error=str(error))
            self._wake_all()  # what was said meanwhile is lost: let everybody look
            threading.Event().wait(0.5)

    def _hear_postgres(self) -> None:
        with psycopg.connect(**self.parameters, autocommit=True) as listening:
            listening.execute(f"LISTEN {CHANNEL}")
            self.ready.set()
            self._wake_all()
            for note in listening.notifies():
                self._wake(note.payload)

    def _hear_datagrams(self) -> None:
        _folder().mkdir(parents=True, exist_ok=True)
        path = _folder() / f"{self.pid}.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(path))
            self.ready.set()
            try:
                while path.exists():
                    if select.select([receiver], [], [], 5)[0]:
                        self._wake(receiver.recv(4096).decode())
            finally:
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def _postgres_parameters() -> dict[str, Any]:
    parameters = connection.get_connection_params()
    return {
        key: value for key, value in parameters.items() if key not in ("cursor_factory", "context", "prepare_threshold")
    }


_current: _Listener | None = None
_current_lock = threading.Lock()


def _listener() -> _Listener:
    """This process's listener; a fork starts its own."""
    global _current
    with _current_lock:
        if _current is None or _current.pid != os.getpid():
            _current = _Listener()
        return _current


def _after_fork() -> None:
    global _current, _current_lock
    _current, _current_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
