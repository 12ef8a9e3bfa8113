"""Wake what waits, in every process of this installation, without polling.

`publish("session:sess_1")` wakes every thread that is inside `Waiter("session:sess_1").wait()`; `bells.py` has the ways that it
takes. A wake-up is a hint: whoever wakes looks at the rows, and looks again now and then without one.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property

import structlog
from django.db import close_old_connections, connections

from sandbox_platform.bells import Bell, Notify, bells, kind_of

log = structlog.get_logger(__name__)
# Seconds until a bell that broke is tried again.
TRY_AGAIN = 0.5
# Seconds for which `publish_soon` collects what it rings at once: who waits there hardly ever does.
MOMENT = 0.02


class Waiter:
    """Waits for one topic. Made before looking at the rows, so that nothing is missed in between."""

    def __init__(self, topic: str) -> None:
        self.topic, self.event = topic, threading.Event()

    def __enter__(self) -> Waiter:
        _exchange().listen(self.topic).add(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _exchange().listen(self.topic).discard(self)

    def wait(self, seconds: float) -> bool:
        """True when woken. Ready to wait again afterwards."""
        woken = self.event.wait(max(0.0, seconds))
        self.event.clear()
        return woken


def publish(topic: str) -> None:
    """Wake the topic's waiters once the current transaction is committed."""
    _exchange().bells[0].publish(topic)


def publish_soon(topic: str) -> None:
    """Wake the topic's waiters within a moment, from a thread of its own: where an answer must not wait for who hardly ever waits."""
    _exchange().later.put(topic)


def follow(kind: str, heard: Callable[[str], None]) -> Callable[[], None]:
    """Have `heard(topic)` called for each ring of that kind from now on, one after the other, by a thread of its own.

    Gives what ends that. While a bell is broken its rings are lost: look at the rows now and then.
    """
    followers = _exchange().listen(f"{kind}:").followers
    if rides():  # the server keeps what the listening thread is too busy for
        followers.append(heard)
        return lambda: followers.remove(heard)
    # A socket keeps ten datagrams, and Redis drops who is slow: so another thread listens meanwhile.
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_answer, args=(said, heard), name="wakeups-follower", daemon=True).start()
    followers.append(said.put)

    def leave() -> None:
        followers.remove(said.put)
        said.put(None)

    return leave


def _answer(said: queue.SimpleQueue[str | None], heard: Callable[[str], None]) -> None:
    while (topic := said.get()) is not None:
        _call(heard, topic)
    connections.close_all()


def _call(heard: Callable[[str], None], topic: str) -> None:
    try:
        heard(topic)
    except Exception:
        log.exception("wakeup_not_followed", topic=topic)


def rides() -> bool:
    """Whether a wake-up can travel in a statement of the caller's own, as `bells.RING` with the topic's channel and the topic."""
    return isinstance(_exchange().bells[0], Notify)


class Later:
    """Rings for what has come together in a moment, all at once."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._topics: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="wakeups-later", daemon=True).start()

    def put(self, topic: str) -> None:
        """Rung soon."""
        self._topics.put(topic)

    def _work(self) -> None:
        while True:
            first = self._topics.get()
            time.sleep(MOMENT)
            topics = {first, *(self._topics.get() for _ in range(self._topics.qsize()))}
            try:
                close_old_connections()
                self._bell.ring(topics)
            except Exception as error:
                log.debug("wakeup_not_sent", error=str(error))


class Listener:
    """Hears topics of one kind, by one thread a bell, and wakes waiters."""

    def __init__(self, kind: str, heard: list[Bell]) -> None:
        self.kind = kind
        self.waiters: dict[str, set[Waiter]] = defaultdict(set)
        self.followers: list[Callable[[str], None]] = []
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.broken: set[str] = set()  # by the names of their classes
        tried = [threading.Event() for _ in heard]
        for bell, event in zip(heard, tried, strict=True):
            threading.Thread(target=self._hear, args=(bell, event), name="wakeups", daemon=True).start()
        for event in tried:
            event.wait(2)

    def add(self, waiter: Waiter) -> None:
        """From now on it is woken."""
        with self.lock:
            self.waiters[waiter.topic].add(waiter)

    def discard(self, waiter: Waiter) -> None:
        """No more."""
        with self.lock:
            self.waiters[waiter.topic].discard(waiter)
            if not self.waiters[waiter.topic]:
                del self.waiters[waiter.topic]

    def _wake(self, topic: str) -> None:
        with self.lock:
            for waiter in self.waiters.get(topic, ()):
                waiter.event.set()
        for heard in self.followers:
            _call(heard, topic)

    def _wake_all(self) -> None:
        """What was said meanwhile is lost: let everybody look."""
        with self.lock:
            for waiters in self.waiters.values():
                for waiter in waiters:
                    waiter.event.set()

    def _hear(self, bell: Bell, tried: threading.Event) -> None:
        name = type(bell).__name__

        def ready() -> None:
            if name in self.broken:
                log.info("wakeups_again", bell=name)
                self.broken.discard(name)
            tried.set()
            self._wake_all()

        while not self.stop.is_set():
            try:
                bell.hear(self.kind, self._wake, ready, self.stop)
            except Exception as error:
                if name not in self.broken:
                    log.warning("wakeups_interrupted", bell=name, error=str(error))
                self.broken.add(name)
            tried.set()
            self._wake_all()
            connections.close_all()  # of followers
            self.stop.wait(TRY_AGAIN)


class Exchange:
    """The bells of this process and, once somebody waits for a kind of topic, its listener. `heard` are the bells that are listened to."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.bells = self.heard = bells()
        self._listeners: dict[str, Listener] = {}
        self._lock = threading.Lock()

    def listen(self, topic: str) -> Listener:
        """Of its kind; made at the first call."""
        kind = kind_of(topic)
        with self._lock:
            if kind not in self._listeners:
                self._listeners[kind] = Listener(kind, self.heard)
            return self._listeners[kind]

    @cached_property
    def later(self) -> Later:
        """Made at the first use."""
        return Later(self.bells[0])

    def close(self) -> None:
        """Its threads end soon."""
        for listener in self._listeners.values():
            listener.stop.set()


_current: Exchange | None = None
_current_lock = threading.Lock()


def _exchange() -> Exchange:
    """This process's; a fork makes its own."""
    global _current
    with _current_lock:
        if _current is None or _current.pid != os.getpid():
            _current = Exchange()
        return _current


def _after_fork() -> None:
    global _current, _current_lock
    _current, _current_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
