"""Sessions by the hundred while parts of the service and sandboxes are killed: what is left of them in the end."""

from __future__ import annotations

import http.client
import os
import random
import secrets
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import load
from bench.client import Client
from tests.e2e import remains

if TYPE_CHECKING:
    from bench.__main__ import Bench

CODE = "def handler(event):\n    open('kept', 'w').write('x' * 100000)\n    return event"
LONG = "import time\ntime.sleep(60)"
ENDS = ("deleted", "purged", "while it runs", "while it starts cold", "sandbox killed", "timed out")
KILLED = ("web", "lifecycle", "copies", "runs", "ticker")
AT_ONCE = 4
KILL_EVERY = 20
"""Sessions between two deaths of a part of the service."""
PATIENCE = 120.0
"""Seconds that a client tries again while what answers it is being replaced."""


def leaks(bench: Bench, count: int) -> None:
    """`count` sessions that end in all ways; with each twentieth a process of the service is killed."""
    print(f"{count} sessions with chaos")
    _Chaos(bench, 20, kill=False).run()  # what stays open (threads, connections, logs) is open by now
    bench.settle_down()
    volumes, opened = remains.volumes(), _opened(bench)
    chaos = _Chaos(bench, count, kill=True)
    chaos.run()
    unended = "SELECT count(*) FROM sessions_app_session WHERE ended_at IS NULL"
    bench.await_that(lambda: bench.operator.one(unended) == 0, 180, "every session has ended")
    bench.settle_down()
    rows = bench.operator.rows("SELECT name, ref FROM runtime_container WHERE status = 'removed'")
    found = remains.traces(bench.service, {word for row in rows for word in row if word})
    found["volumes"] = len(remains.volumes() - volumes)
    now = _opened(bench)
    found["descriptors of sandboxes"] = sum("/sandboxes/" in target for targets in now.values() for target in targets)
    before, after = (sum(map(len, table.values())) for table in (opened, now))
    print(f"  ends: {dict(chaos.ends)}\n  killed: {dict(chaos.deaths)}\n  sandboxes made and removed: {len(rows)}")
    for kind, number in found.items():
        bench.report.figure(f"left: {kind}", number, "")
    bench.report.figure("descriptors of all our processes, before", before, "")
    bench.report.figure("descriptors of all our processes, after", after, "")
    bar = bench.report.bar
    bar(f"left of {count} sessions with chaos, of all kinds", sum(found.values()), 0, 0)
    bar("descriptors more than before, a session", max(0, after - before) / count, 0.1, 0)


class _Chaos:
    """Sessions, some at a time, and what happens to them."""

    def __init__(self, bench: Bench, count: int, kill: bool) -> None:
        self._bench, self._count, self._kill = bench, count, kill
        self._dice = random.Random(count)
        self._local = threading.local()
        self.ends: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()

    def run(self) -> None:
        """All of them, to their ends."""
        hows = [ENDS[number % len(ENDS)] for number in range(self._count)]
        self._dice.shuffle(hows)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, done in enumerate(pool.map(self._one, hows), 1):
                self.ends[done] += 1
                if self._kill and number % KILL_EVERY == 0:
                    self._kill_a_part(KILLED[number // KILL_EVERY % len(KILLED)])

    def _one(self, how: str) -> str:
        cold = {"resources": {"disk": "2Gi"}} if how == "while it starts cold" else {}
        life = {"timeout": 60} if how == "timed out" else {}
        session = self._call("POST", "/api/v1/sessions", {"template_id": "python-basic", **cold, **life})
        path = f"/api/v1/sessions/{session['session_id']}"
        body = {"language": "python", "code": LONG if how == "while it runs" else CODE, "event": 1}
        if how not in ("while it starts cold", "timed out"):
            run = self._call("POST", f"{path}/execute", body)
            if how != "while it runs":
                self._result(run["execution_id"])
        if how == "sandbox killed":
            container = self._call("GET", path)["container_id"]
            if container:
                subprocess.run(["docker", "kill", container], capture_output=True)
        elif how != "timed out":
            self._call("DELETE", f"{path}?purge=true" if how == "purged" else path)
        return how

    def _result(self, execution_id: str) -> None:
        end = time.monotonic() + PATIENCE
        while self._call("GET", f"/api/v1/executions/{execution_id}/result?wait=10")["status"] in (
            "pending",
            "running",
            "submitted",
        ):
            if time.monotonic() > end:
                raise RuntimeError(f"{execution_id} does not end")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """As a patient client: again, under the same key, where the connection broke or there was no room."""
        key, end = secrets.token_hex(8), time.monotonic() + PATIENCE
        while True:
            if not hasattr(self._local, "client"):
                self._local.client = self._bench.new_client()
            client: Client = self._local.client
            try:
                return client.call(method, path, body, key=key if method == "POST" else "")
            except (OSError, http.client.HTTPException):
                client.close()
                del self._local.client
            except RuntimeError as error:
                if not any(f": {status} " in str(error) for status in (409, 429, 503)):
                    raise
            if time.monotonic() > end:
                raise RuntimeError(f"{method} {path}: no answer in {PATIENCE:.0f} s")
            time.sleep(0.3)

    def _kill_a_part(self, part: str) -> None:
        root = self._bench.service.process
        mark = f"supervisor.child {root.pid} {part}" if root else ""
        pids = [pid for pid in load.descendants(root.pid if root else 0) if mark in _command(pid)]
        if pids:
            with suppress(ProcessLookupError):
                os.kill(self._dice.choice(pids), signal.SIGKILL)
                self.deaths[part] += 1


def _opened(bench: Bench) -> dict[int, list[str]]:
    root = bench.service.process
    return remains.descriptors(load.descendants(root.pid)) if root else {}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
