"""What carries a wake-up from process to process: NOTIFY beside PostgreSQL, datagrams beside SQLite, Redis where REDIS_URL names one.

A bell loses nothing that matters: whoever waits looks at the rows, and looks again now and then without a ring. Each kind of topic has a
channel of its own: a ring wakes those processes alone in which somebody waits for that kind.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
import structlog
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils.crypto import salted_hmac
from psycopg import sql

log = structlog.get_logger(__name__)
CHANNEL = "sandbox_wakeups"
RING = "pg_notify(%s, %s)"
RING_WITH_ID = "pg_notify(%s, concat(%s::text, id))"
RING_ALL = "SELECT pg_notify(channel, topic) FROM unnest(%s::text[], %s::text[]) AS rung(channel, topic)"
# Seconds between looks of a listener whether it is wanted still, and whether the other side is there.
LOOK = 5.0
# Seconds that a ring may take by Redis, and for which it is left alone when it has failed.
REDIS_PATIENCE, REDIS_PAUSE = 0.5, 2.0


def kind_of(topic: str) -> str:
    """What its channel carries: all sessions, say, or the one queue."""
    kind, _, name = topic.partition(":")
    return f"{kind}_{name}" if kind == "queue" else kind


def channel_of(topic: str) -> str:
    """Where NOTIFY says it."""
    return f"{CHANNEL}_{kind_of(topic)}"


class Bell(Protocol):
    """One way to reach the other processes of this installation."""

    def publish(self, topic: str) -> None:
        """Ring once the current transaction is committed."""

    def ring(self, topics: Iterable[str]) -> None:
        """Ring now."""

    def hear(self, kind: str, heard: Callable[[str], None], ready: Callable[[], None], stop: threading.Event) -> None:
        """Call `heard(topic)` for each ring of that kind from `ready()` on, until `stop`. Raises when it breaks."""


class Notify:
    """PostgreSQL's own: takes effect on commit by itself. One LISTEN connection a kind that a process waits for."""

    def __init__(self) -> None:
        given = connection.get_connection_params()
        ours = ("cursor_factory", "context", "prepare_threshold")
        self._parameters: dict[str, Any] = {key: value for key, value in given.items() if key not in ours}

    def publish(self, topic: str) -> None:
        """In the transaction."""
        self.ring([topic])

    def ring(self, topics: Iterable[str]) -> None:
        """Outside of a transaction: at once."""
        topics = list(topics)
        with connection.cursor() as cursor:
            cursor.execute(RING_ALL, [[channel_of(topic) for topic in topics], topics])

    def hear(self, kind: str, heard: Callable[[str], None], ready: Callable[[], None], stop: threading.Event) -> None:
        """By a connection of its own."""
        with psycopg.connect(**self._parameters, autocommit=True) as listening:
            listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"{CHANNEL}_{kind}")))
            ready()
            while not stop.is_set():
                for note in listening.notifies(timeout=LOOK):
                    heard(note.payload)


class Datagrams:
    """To a socket of each process in the state folder."""

    def __init__(self) -> None:
        self._folder = Path(settings.STATE_DIR) / "wake"

    def publish(self, topic: str) -> None:
        """On commit."""
        transaction.on_commit(lambda: self.ring([topic]))

    def ring(self, topics: Iterable[str]) -> None:
        """One datagram a process that waits for its kind."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            for topic in topics:
                self._send(sender, topic)

    def _send(self, sender: socket.socket, topic: str) -> None:
        for path in self._folder.glob(f"{kind_of(topic)}.*.sock"):
            try:
                sender.sendto(topic.encode(), str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)  # its process is gone
            except OSError as error:  # a full buffer: the waiter looks again by itself
                log.debug("wakeup_not_sent", path=path.name, error=str(error))

    def hear(self, kind: str, heard: Callable[[str], None], ready: Callable[[], None], stop: threading.Event) -> None:
        """Ends when its socket file is taken away, too."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{kind}.{os.getpid()}-{secrets.token_hex(3)}.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(path))
            ready()
            try:
                while path.exists() and not stop.is_set():
                    if select.select([receiver], [], [], LOOK)[0]:
                        heard(receiver.recv(4096).decode())
            finally:
                with suppress(OSError):
                    path.unlink(missing_ok=True)


class Redis:
    """Redis's PUBLISH, on commit. While Redis is away the database's own bell rings instead: everybody hears both."""

    def __init__(self, url: str, instead: Bell) -> None:
        from redis import Redis as Client
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._client = Client.from_url(
            url, socket_timeout=REDIS_PATIENCE, socket_connect_timeout=REDIS_PATIENCE, retry=Retry(NoBackoff(), 0)
        )
        self._instead, self._not_before = instead, 0.0
        # Pub/sub knows no database numbers, so the channel names the installation. All its hosts have the same SECRET_KEY.
        self._channel = f"{CHANNEL}:{salted_hmac('sandbox_platform.bells', 'channel').hexdigest()[:16]}"

    def publish(self, topic: str) -> None:
        """On commit."""
        transaction.on_commit(lambda: self.ring([topic]))

    def ring(self, topics: Iterable[str]) -> None:
        """By Redis, or else by the other bell. Never raises: the commit stands."""
        from redis import RedisError

        topics = list(topics)
        if time.monotonic() >= self._not_before:
            try:
                for topic in topics:
                    self._client.publish(f"{self._channel}:{kind_of(topic)}", topic)
                return
            except RedisError as error:
                self._not_before = time.monotonic() + REDIS_PAUSE
                log.warning("redis_unavailable", error=str(error))
        try:
            self._instead.ring(topics)
        except DatabaseError as error:
            log.debug("wakeup_not_sent", error=str(error))

    def hear(self, kind: str, heard: Callable[[str], None], ready: Callable[[], None], stop: threading.Event) -> None:
        """A server that hangs is told from one that has nothing to say by a ping."""
        with self._client.pubsub() as listening:
            listening.subscribe(f"{self._channel}:{kind}")
            asked = False
            while not stop.is_set():
                message = listening.get_message(timeout=LOOK)
                if message is None and asked:
                    raise TimeoutError("Redis does not answer")
                asked = message is None
                if message is None:
                    listening.ping()
                elif message["type"] == "subscribe":
                    ready()
                elif message["type"] == "message":
                    heard(message["data"].decode())


def bells() -> list[Bell]:
    """Those that this installation has: the first is rung, all are heard."""
    own: Bell = Notify() if connection.vendor == "postgresql" else Datagrams()
    return [Redis(settings.REDIS_URL, own), own] if settings.REDIS_URL else [own]
