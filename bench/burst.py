"""A burst of creates on a warm pool: everybody at once, from the create to the first result."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from bench.figures import percentile
from bench.operator import SMALL

if TYPE_CHECKING:
    from bench.__main__ import Bench

TEMPLATE = "python-basic"
HELLO = "def handler(event):\n    return {'hello': event['name']}"


def burst(bench: Bench, count: int) -> None:
    """`count` clients, and as many warm containers."""
    print(f"A burst of {count} creates on a pool of {count}")
    operator = bench.operator
    before = operator.rows("SELECT cpu, memory, warm_pool_size FROM templates_app_template WHERE id = %s", TEMPLATE)[0]
    operator.node(cpu_overcommit=200.0, disk_overcommit=10.0)
    operator.template(TEMPLATE, warm_pool_size=count, **SMALL)
    try:
        bench.await_that(lambda: operator.pool() == (count, 0), 60 + 4 * count, "the pool is full")
        spent = bench.service_cpu()
        seconds, failed = _all_at_once(bench, count)
        print(f"  processor time of our processes: {(bench.service_cpu() - spent) * 1000 / count:.1f} ms a session")
    finally:
        operator.node(cpu_overcommit=8.0, disk_overcommit=4.0)
        operator.template(TEMPLATE, cpu=before[0], memory=before[1], warm_pool_size=before[2])
    bench.report.add({"burst: create to first result": [value * 1000 for value in seconds]})
    bench.report.figure("burst: creates or runs that failed", len(failed), "")
    for words in failed[:3]:
        print(f"  failed: {words}")
    bench.report.bar(f"burst of {count} creates: p95 to the first result, s", percentile(seconds, 95), 3.0, 1.5)
    bench.report.bar("burst: creates or runs that failed", len(failed), 0, 0)
    bench.settle_down()


def _all_at_once(bench: Bench, count: int) -> tuple[list[float], list[str]]:
    start = threading.Barrier(count)
    seconds: list[float] = []
    failed: list[str] = []
    sessions: list[str] = []

    def one() -> None:
        client = bench.new_client()
        start.wait()
        began = time.perf_counter()
        try:
            # Code may be submitted at once: it runs when the sandbox is up.
            session_id = client.session(TEMPLATE, wait=False)
            sessions.append(session_id)
            client.run(session_id, HELLO, event={"name": "Alice"})
        except Exception as error:
            failed.append(str(error)[:300])
        seconds.append(time.perf_counter() - began)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session_id in sessions:
        bench.client.end(session_id)
    return seconds, failed
