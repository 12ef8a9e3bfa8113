"""kill -9 of everything of ours, at each named step, while runs go through: none is lost and none starts twice.

The sandboxes themselves count the starts: each run appends its id to a file of its workspace. A client repeats a request that broke
with the same Idempotency-Key, as any client should. CHAOS_RUNS=300 (`make chaos`) makes it longer.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings

from tests.e2e.service import Service
from tests.e2e.test_postgres import database_url  # noqa: F401 - a fixture

RUNS = int(os.environ.get("CHAOS_RUNS", "30"))
ON_POSTGRES = settings.DATABASES["default"]["ENGINE"].endswith("postgresql")
pytestmark = [
    pytest.mark.bubblewrap,
    pytest.mark.e2e,
    pytest.mark.timeout(300 + 20 * RUNS),
    pytest.mark.skipif(ON_POSTGRES and "CHAOS_RUNS" not in os.environ, reason="`make chaos` runs it beside PostgreSQL"),
]
WEB_STEPS = ("written", "committed", "started", "ended", "stored")
QUEUE_STEPS = ("doorbell", "claimed", "started", "ended", "stored")
CODE = """
import os, time
def handler(event):
    starts = os.open("/workspace/starts", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o664)
    os.write(starts, (event["id"] + "\\n").encode())
    time.sleep(event["seconds"])
    print("said", event["id"])
    return {"id": event["id"]}
"""
# How a request ends whose server dies: before the answer, or within it.
BROKEN = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)
CLIENTS, SESSIONS = 8, 2
PATIENCE = 180.0


@dataclass
class Traffic:
    """Clients that submit runs, half of them waiting in the web's threads, until they are told to stop."""

    service: Service
    sessions: list[str]
    most: int
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: dict[str, set[str]] = field(default_factory=dict)
    failures: queue.SimpleQueue[BaseException] = field(default_factory=queue.SimpleQueue)
    enough: threading.Event = field(default_factory=threading.Event)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]

    def _client(self, number: int) -> None:
        try:
            while not (self.enough.is_set() and len(self.results) >= self.most):
                with self._lock:
                    name = f"run-{next(self._numbers)}"
                self._one(name, self.sessions[number % len(self.sessions)], waits=number % 2 == 0)
        except BaseException as error:
            self.failures.put(error)

    def _one(self, name: str, session_id: str, waits: bool) -> None:
        began = time.monotonic()
        body = {"code": CODE, "language": "python", "event": {"id": name, "seconds": random.choice((0.0, 0.05, 0.3))}}
        headers = {"Idempotency-Key": name, **({"Prefer": "wait=20"} if waits else {})}
        answer = self.insist("POST", f"/sessions/{session_id}/execute", json=body, headers=headers)
        execution = answer["execution_id"]
        while answer["status"] not in ("success", "failed", "timeout"):
            assert time.monotonic() - began < PATIENCE, (name, answer)
            answer = self.insist("GET", f"/executions/{execution}/result?wait=5")
        self.results[name] = answer
        self.executions.setdefault(session_id, set()).add(name)
        self.seconds[name] = time.monotonic() - began

    def insist(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        """The answer, however often the service dies meanwhile."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self.service.api(method, path, **kwargs)
                if answer.status_code == 200:
                    return answer.json()
                # 409: the twin that died with its process is still under way for those who ask too early.
                assert answer.status_code in (409, 502, 503), answer.text
            except BROKEN:
                pass
            assert time.monotonic() < end, f"no answer to {method} {path}"
            threading.Event().wait(0.1)


@pytest.fixture
def crashing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    environment = {
        "CRASH_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parent / "crashpoints"),
        "WEB_THREADS": "32",
    }
    if ON_POSTGRES:
        environment["DATABASE_URL"] = request.getfixturevalue("database_url")
    service = Service("bubblewrap", **environment)
    try:
        service.start()
        yield service
    finally:
        service.remove()


def new_session(service: Service) -> str:
    body = {"template_id": "python-basic", "max_concurrency": 4, "timeout": 3600}  # longer than all of it takes
    answer = service.api("POST", "/sessions", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 201 and answer.json()["status"] == "running", answer.text
    return answer.json()["session_id"]


def test_nothing_is_lost_and_nothing_starts_twice(crashing: Service, tmp_path: Path) -> None:
    traffic = Traffic(crashing, [new_session(crashing) for _ in range(SESSIONS)], RUNS)
    for thread in traffic.threads:
        thread.start()
    try:
        kills = 0
        while kills == 0 or len(traffic.results) < RUNS:
            kills += crash_at_each_step(tmp_path, traffic)
            kills += kill_children(crashing, traffic)
    finally:
        traffic.enough.set()
        for thread in traffic.threads:
            thread.join(PATIENCE)
    assert traffic.failures.empty(), traffic.failures.get()
    judge(traffic, kills)


def judge(traffic: Traffic, kills: int) -> None:
    """Each run has its true result, and its sandbox has seen it start once."""
    wrong = {
        name: result for name, result in traffic.results.items()
        if (result["status"], result["return_value"], result["stdout"]) != ("success", {"id": name}, f"said {name}\n")
    }  # fmt: skip
    assert not wrong, wrong
    lost = twice = 0
    for session_id, names in traffic.executions.items():
        starts = Counter(traffic.service.api("GET", f"/sessions/{session_id}/files/starts").text.split())
        lost += len(names - set(starts))
        twice += sum(count > 1 for count in starts.values())
        assert not set(starts) - names, "only what was accepted has run"
    slowest = max(traffic.seconds.values())
    print(
        f"\n{len(traffic.results)} runs, {kills} kills: lost {lost}, started twice {twice}, slowest {slowest:.1f} s",
        file=sys.stderr,
    )
    assert (lost, twice) == (0, 0)


def crash_at_each_step(folder: Path, traffic: Traffic) -> int:
    """One step of the web and one of the queue at a time; the number of processes that died."""
    for steps in zip(WEB_STEPS, QUEUE_STEPS, strict=True):
        armed = [folder / f"{part}.{step}" for part, step in zip(("web", "runs"), steps, strict=True)]
        for path in armed:
            path.touch()
        wait_for(lambda armed=armed: not any(path.exists() for path in armed), traffic, f"a crash at {steps}")
    return len(WEB_STEPS) + len(QUEUE_STEPS)


def kill_children(service: Service, traffic: Traffic) -> int:
    """Each kind of process below the supervisor, from outside; the number of kills."""
    assert service.process is not None
    kills = 0
    for choose in (web_master, queue_leader, queue_helper, ticker, lifecycle_worker):
        victim = wait_for(lambda choose=choose: choose(service.process.pid), traffic, choose.__name__)  # type: ignore[union-attr]
        os.kill(victim, signal.SIGKILL)
        done = len(traffic.results)
        wait_for(lambda done=done: len(traffic.results) > done, traffic, f"a run after {choose.__name__} died")
        kills += 1
    return kills


def wait_for(condition: Any, traffic: Traffic, what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert traffic.failures.empty(), traffic.failures.get()
        assert time.monotonic() < end, f"in vain: {what}\n{traffic.service.console()}"
        threading.Event().wait(0.02)
    return value


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def part(supervisor: int, name: str) -> int:
    """The process that leads a part; 0 while it is down."""
    for pid in children(supervisor):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if name.encode() in words:
            return pid
    return 0


def web_master(supervisor: int) -> int:
    return part(supervisor, "web")


def queue_leader(supervisor: int) -> int:
    """django-q2's guard of the runs queue."""
    return next(iter(children(part(supervisor, "runs"))), 0)


def queue_helper(supervisor: int) -> int:
    """Its pusher, monitor or worker."""
    return next(iter(random.sample(below, 1) if (below := children(queue_leader(supervisor))) else []), 0)


def ticker(supervisor: int) -> int:
    return part(supervisor, "ticker")


def lifecycle_worker(supervisor: int) -> int:
    return next((pid for guard in children(part(supervisor, "lifecycle")) for pid in children(guard)), 0)
