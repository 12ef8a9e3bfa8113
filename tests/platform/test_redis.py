"""Wake-ups by a real Redis: at once, once committed, and nothing is lost while it is dead or hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django_q.brokers import get_broker

from sandbox_platform import bells, wakeups
from sandbox_platform.queue import Queue, depth, enqueue
from tests import requirements
from tests.api.client import eventually
from tests.platform.test_queue import AT_ONCE, arguments, in_thread
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    requirements.need("redis")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def exchange(server: RedisServer, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[wakeups.Exchange]:
    """This process as it is with REDIS_URL."""
    settings.REDIS_URL = server.url
    monkeypatch.setattr(bells, "LOOK", 0.5)
    made = wakeups.Exchange()
    monkeypatch.setattr(wakeups, "_current", made)
    yield made
    made.close()


@pytest.fixture
def deaf_otherwise(exchange: wakeups.Exchange) -> None:
    """Nothing but Redis is heard."""
    exchange.heard = exchange.bells[:1]


def ring_and_hear(topic: str) -> float:
    """Seconds from the ring to the waiter."""
    with wakeups.Waiter(topic) as waiter:
        began = time.monotonic()
        wakeups.publish(topic)
        assert waiter.wait(10)
        return time.monotonic() - began


def test_redis_carries_the_bell(deaf_otherwise: None, server: RedisServer) -> None:
    assert ring_and_hear("test:a") < AT_ONCE
    assert server.published() == 1


def test_a_waiter_hears_its_own_topic_once_committed(deaf_otherwise: None) -> None:
    with wakeups.Waiter("test:a") as a, wakeups.Waiter("test:b") as b:
        with transaction.atomic():
            wakeups.publish("test:a")
            assert not a.wait(0.05)
        assert a.wait(10)
        assert not b.wait(0)


def test_nobody_hears_of_what_was_rolled_back(deaf_otherwise: None, server: RedisServer) -> None:
    with wakeups.Waiter("test:a") as a:
        with transaction.atomic():
            wakeups.publish("test:a")
            transaction.set_rollback(True)
        ring_and_hear("test:marker")
        assert not a.wait(0)
    assert server.published() == 1


def test_a_waiting_worker_wakes_at_once_and_the_task_was_never_in_redis(
    deaf_otherwise: None, server: RedisServer
) -> None:
    broker = get_broker(Queue.LIFECYCLE)
    thread, results = in_thread(lambda: (arguments(broker.dequeue()), time.monotonic()))
    eventually(lambda: f"queue:{Queue.LIFECYCLE}" in wakeups._exchange().listen(f"queue:{Queue.LIFECYCLE}").waiters)
    began = time.monotonic()
    enqueue(Queue.LIFECYCLE, "some.task", "x")
    thread.join(10)
    ((claimed, ended),) = results
    assert claimed[0][2] == "x"
    assert ended - began < AT_ONCE
    assert depth(Queue.LIFECYCLE) == 0
    assert server.client.dbsize() == 0


def test_while_redis_is_dead_the_database_rings_and_afterwards_redis_again(
    exchange: wakeups.Exchange, server: RedisServer
) -> None:
    assert ring_and_hear("test:before") < AT_ONCE
    assert server.published() == 1
    server.kill()
    for number in range(20):
        assert ring_and_hear(f"test:dead {number}") < AT_ONCE
    server.start()
    eventually(lambda: server.subscribers() == 1)
    eventually(lambda: ring_and_hear("test:again") < AT_ONCE and server.published() > 0)


def test_a_redis_that_hangs_costs_one_patience(exchange: wakeups.Exchange, server: RedisServer) -> None:
    ring_and_hear("test:before")
    server.hang()
    assert ring_and_hear("test:first") < bells.REDIS_PATIENCE + AT_ONCE
    began = time.monotonic()
    for number in range(20):
        ring_and_hear(f"test:more {number}")
    assert time.monotonic() - began < bells.REDIS_PAUSE, "it is left alone"
    # The listener finds out by its ping; once Redis goes on, it is heard again.
    redis_heard = exchange.listen("test:a")
    eventually(lambda: redis_heard.broken, 10)
    server.go_on()
    eventually(lambda: not redis_heard.broken and server.subscribers() >= 1)
    carried = server.published()
    eventually(lambda: ring_and_hear("test:again") < AT_ONCE and server.published() > carried)


def test_a_process_that_starts_while_redis_is_dead_waits_for_nobody(settings: Any, tmp_path: Path) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"
    began = time.monotonic()
    exchange = wakeups.Exchange()
    exchange.listen("test:a")
    assert time.monotonic() - began < AT_ONCE
    exchange.close()
