"""Ends of sessions: how long the DELETE takes, and how long what the session held is still there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.figures import percentile
from tests.e2e import remains

if TYPE_CHECKING:
    from bench.__main__ import Bench

FILES = "def handler(event):\n    for number in range(10):\n        open(f'file-{number}', 'w').write('x' * 10000)"
TIMES = """
    SELECT extract(epoch FROM released_at - greatest(files_saved_at, ended_at)), extract(epoch FROM released_at - ended_at)
    FROM sessions_app_session WHERE id = ANY(%s)
"""
CONTAINERS = "SELECT container_id FROM sessions_app_session WHERE id = ANY(%s)"


def ends(bench: Bench, rounds: int) -> None:
    """One session after the other: some files, then the end."""
    print("Ends of sessions")
    answers, ended = [], []
    for _ in range(rounds):
        session_id = bench.client.session()
        bench.client.run(session_id, FILES)
        ended.append(session_id)
        began = time.perf_counter()
        bench.client.end(session_id)
        answers.append((time.perf_counter() - began) * 1000)
        bench.await_pool()
    bench.await_nothing_held()
    after_saved, after_end = zip(*((float(a), float(b)) for a, b in bench.operator.rows(TIMES, ended)), strict=True)
    bench.report.add(
        {
            "terminate: the answer": answers,
            "terminate: from the saved files to nothing held": [seconds * 1000 for seconds in after_saved],
            "terminate: from the answer to nothing held": [seconds * 1000 for seconds in after_end],
        }
    )
    names = [name for (name,) in bench.operator.rows(CONTAINERS, ended)]
    left = [line for line in remains.remains(bench.service) if any(name in line for name in names)]
    bench.report.bar("terminate: p95 of the answer, ms", percentile(answers, 95), 50, 25)
    bench.report.bar("terminate: files saved to nothing held, most, s", max(after_saved), 5, 1)
    bench.report.bar("terminate: containers, mounts, folders, cgroups still there", len(left), 0, 0)
