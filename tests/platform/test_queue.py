"""The queue and the wake-ups: nothing of a rolled-back transaction, nothing twice, and at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import structlog
from django.db import connections, transaction
from django_q.brokers import get_broker
from django_q.signing import SignedPackage

from sandbox_platform import wakeups
from sandbox_platform.queue import Queue, call, depth, enqueue
from tests import workers
from tests.api.client import eventually

pytestmark = pytest.mark.django_db(transaction=True)
# Far below the time after which a waiter looks by itself.
AT_ONCE = 1.0


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def arguments(claimed: Any) -> list[Any]:
    return [SignedPackage.loads(payload)["args"] for _, payload in claimed or ()]


def test_a_task_of_a_rolled_back_transaction_never_runs() -> None:
    class Undo(Exception):
        pass

    with suppress(Undo), transaction.atomic():
        enqueue(Queue.RUNS, "executions_app.tasks.tick")
        raise Undo
    assert depth(Queue.RUNS) == 0
    assert not workers.run_one(Queue.RUNS)


def test_it_is_not_seen_before_the_commit() -> None:
    with transaction.atomic():
        enqueue(Queue.RUNS, "executions_app.tasks.tick")
        thread, results = in_thread(lambda: depth(Queue.RUNS))
        thread.join(10)
        assert results == [0]
    assert depth(Queue.RUNS) == 1


def test_tasks_come_in_order_each_once_and_to_their_own_queue() -> None:
    for n in range(5):
        enqueue(Queue.RUNS, "some.task", n)
    enqueue(Queue.LIFECYCLE, "another.task")
    broker = get_broker(Queue.RUNS)
    claimed = [arguments(broker._claim())[0][2] for _ in range(5)]
    assert claimed == [0, 1, 2, 3, 4]
    assert broker._claim() is None
    assert depth(Queue.LIFECYCLE) == 1


def test_two_claimers_never_get_the_same_task() -> None:
    total = 60
    for n in range(total):
        enqueue(Queue.RUNS, "some.task", n)
    start = threading.Barrier(4)

    def claim_all() -> list[int]:
        broker, mine = get_broker(Queue.RUNS), []
        start.wait()
        while depth(Queue.RUNS):
            mine += [args[2] for args in arguments(broker._claim())]
        return mine

    running = [in_thread(claim_all) for _ in range(4)]
    for thread, _ in running:
        thread.join(60)
    claimed = [n for _, results in running for mine in results for n in mine]
    assert sorted(claimed) == list(range(total))


def test_a_waiting_worker_wakes_at_once() -> None:
    broker = get_broker(Queue.LIFECYCLE)
    broker.dequeue()  # the listener is there, the connection too
    waiting = threading.Event()
    ended: list[float] = []

    def wait() -> Any:
        waiting.set()
        claimed = broker.dequeue()
        ended.append(time.monotonic())
        return arguments(claimed)

    thread, results = in_thread(wait)
    waiting.wait(5)
    began = time.monotonic()
    enqueue(Queue.LIFECYCLE, "some.task", "x")
    thread.join(10)
    assert results[0][0][2] == "x"
    assert ended[0] - began < AT_ONCE


def test_a_waiter_hears_its_own_topic_once_committed() -> None:
    with wakeups.Waiter("test:a") as a, wakeups.Waiter("test:b") as b:
        with transaction.atomic():
            wakeups.publish("test:a")
            assert not a.wait(0.05)
        began = time.monotonic()
        assert a.wait(10)
        assert time.monotonic() - began < AT_ONCE
        assert not b.wait(0.05)
        assert not a.wait(0.05)


def test_nobody_hears_of_what_was_rolled_back() -> None:
    with wakeups.Waiter("test:a") as a, wakeups.Waiter("test:marker") as marker:
        with transaction.atomic():
            wakeups.publish("test:a")
            transaction.set_rollback(True)
        wakeups.publish("test:marker")
        assert marker.wait(10)
        assert not a.wait(0)


def test_what_may_be_rung_later_is_rung_soon_and_for_all() -> None:
    with wakeups.Waiter("test:a") as a, wakeups.Waiter("test:b") as b, wakeups.Waiter("other:a") as other:
        began = time.monotonic()
        for topic in ("test:a", "test:b", "other:a", "test:a"):
            wakeups.publish_soon(topic)
        assert a.wait(10) and b.wait(10) and other.wait(10)
        assert time.monotonic() - began < AT_ONCE


def test_a_ring_reaches_those_alone_who_listen_for_its_kind() -> None:
    """A process in which nobody waits for sessions is not woken by them."""
    heard: list[str] = []
    ready, stop = threading.Event(), threading.Event()
    bell = wakeups._exchange().bells[0]
    listener = threading.Thread(target=bell.hear, args=("test", heard.append, ready.set, stop))
    listener.start()
    try:
        assert ready.wait(10)
        bell.ring(["other:a", "testing:a", "test:b"])
        wakeups.publish("test:marker")
        eventually(lambda: "test:marker" in heard)
        assert heard == ["test:b", "test:marker"]
    finally:
        stop.set()
        wakeups.publish("test:over")
        listener.join(10)
    assert not listener.is_alive()


def test_every_waiter_of_a_topic_is_woken() -> None:
    with wakeups.Waiter("test:a") as one, wakeups.Waiter("test:a") as two:
        wakeups.publish("test:a")
        assert one.wait(10) and two.wait(10)


def test_the_request_id_goes_with_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    structlog.contextvars.clear_contextvars()
    monkeypatch.setattr("executions_app.tasks.tick", lambda: seen.append(structlog.contextvars.get_contextvars()))
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        enqueue(Queue.RUNS, "executions_app.tasks.tick")
    assert workers.run_one(Queue.RUNS)
    assert seen[0]["request_id"] == "r1"
    call("executions_app.tasks.tick", "")
    assert "request_id" not in seen[1]


def test_tasks_carry_ids_alone() -> None:
    enqueue(Queue.RUNS, "some.task", "sess_x", 7)
    ((path, request_id, *ids),) = arguments(get_broker(Queue.RUNS)._claim())
    assert (path, ids) == ("some.task", ["sess_x", 7])
    assert isinstance(request_id, str)
