"""Many live sessions on one node, overcommitted: the last answers as one alone does."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.figures import interleave, percentile
from bench.operator import SMALL

if TYPE_CHECKING:
    from bench.__main__ import Bench

HELLO = "def handler(event):\n    return {'hello': event['name']}"
AT_ONCE = 4
"""Creates that are under way at one moment: each starts cold, and has a deadline."""


def crowd(bench: Bench, count: int, rounds: int) -> None:
    """`count` sessions of 256Mi; then each one's first run, and its second."""
    print(f"{count} live sessions")
    bench.operator.node(max_sessions=count, memory_overcommit=10.0, cpu_overcommit=200.0, disk_overcommit=10.0)
    first = bench.client.session(resources=SMALL, timeout=3600)

    def hello(session_id: str) -> None:
        bench.client.run(session_id, HELLO, event={"name": "Alice"})

    alone = interleave({"hello, one session": lambda: hello(first)}, rounds)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        others = list(pool.map(lambda _: _another(bench), range(count - 1)))
    bench.await_pool()
    time.sleep(2)  # what the last start has stirred up settles
    sessions = [first, *others]
    crowded: dict[str, list[float]] = {}
    for name in ("hello among them, first run", "hello among them"):
        crowded[name] = []
        for session_id in sessions:
            crowded[name] += interleave({name: lambda pk=session_id: hello(pk)}, 1, warm_up=0)[name]
    bench.report.add({**alone, **crowded})
    alone_p95 = percentile(alone["hello, one session"], 95)
    p95 = percentile(crowded["hello among them"], 95)
    bench.report.bar(f"hello p95 among {count} live sessions / one", p95 / alone_p95, 2.0, 1.3)
    for session_id in sessions:
        bench.client.end(session_id)
    bench.settle_down()
    bench.operator.node(max_sessions=200, memory_overcommit=1.0, cpu_overcommit=8.0, disk_overcommit=4.0)


def _another(bench: Bench) -> str:
    client = bench.new_client()
    try:
        return client.session(resources=SMALL, timeout=3600)
    finally:
        client.close()
