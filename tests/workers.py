"""The workers of a test: the same tasks, taken from the same queue, run in threads of the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django_q.brokers import get_broker
from django_q.signing import SignedPackage

from executions_app import tasks
from executions_app.management.commands.ticker import tick
from executions_app.services import doorbell
from sandbox_platform import processes, wakeups
from sandbox_platform.queue import Queue, call


def run_one(queue: Queue) -> bool:
    """Take one task and run it in this thread. False if there is none."""
    claimed = get_broker(str(queue))._claim()
    for _, payload in claimed or ():
        task = SignedPackage.loads(payload)
        call(*task["args"], **task["kwargs"])
    return bool(claimed)


@contextmanager
def running(lifecycle: int = 2, ticking: bool = True) -> Iterator[None]:
    """Workers for every queue, and a ticker, until the end of the block."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(queue: Queue) -> None:
        broker = get_broker(str(queue))
        try:
            while not stop.is_set():
                for _, payload in broker.dequeue() or ():
                    task = SignedPackage.loads(payload)
                    try:
                        call(*task["args"], **task["kwargs"])
                    except Exception as error:
                        failures.append(error)
        finally:
            connections.close_all()

    def clock() -> None:
        observer, count = processes.Observer(), 0
        try:
            while not stop.wait(0.5):
                tick(observer, count)
                count += 1
        finally:
            connections.close_all()

    queues = [Queue.RUNS, Queue.BUILDS, Queue.COPIES, *[Queue.LIFECYCLE] * lifecycle]
    threads = [threading.Thread(target=work, args=(queue,), daemon=True) for queue in queues]
    if ticking:
        threads.append(threading.Thread(target=clock, daemon=True))
    for thread in threads:
        thread.start()
    leave = doorbell.follow(tasks.dispatch)
    try:
        yield
    finally:
        leave()
        stop.set()
        deadline = time.monotonic() + 15
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            for queue in Queue:
                wakeups.publish(f"queue:{queue}")
            threads[0].join(0.05)
        if failures:
            raise failures[0]
