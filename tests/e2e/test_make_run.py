"""`make run`: it starts, shows that it works, mends itself, survives the worst, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import ROOT, Service

pytestmark = [pytest.mark.bubblewrap, pytest.mark.e2e, pytest.mark.timeout(300)]
HELLO = {
    "language": "python",
    "code": "def handler(event):\n    return event['x'] + event['y']",
    "event": {"x": 10, "y": 32},
}


def until(condition: Callable[[], Any], seconds: float = 45) -> Any:
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.1)
    return result


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service("bubblewrap")
    try:
        service.start()
        yield service
    finally:
        service.remove()


def workers_of(service: Service, kind: str) -> set[int]:
    """Process ids by what the service itself recorded."""
    with sqlite3.connect(f"file:{service.state}/db.sqlite3?mode=ro", uri=True) as database:
        rows = database.execute("SELECT pid FROM sandbox_platform_process WHERE kind = ? AND dead_at IS NULL", [kind])
        return {pid for (pid,) in rows}


def processes_of(service: Service) -> list[str]:
    """The command lines of all processes that have to do with its state folder: parts, sandboxes, tools."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(service.state).encode() in said:
                found.append(f"{entry.name} {said[:200]!r}")
    return found


def mounts_of(service: Service) -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if str(service.state) in line]


def run_hello(service: Service, session_id: str) -> Any:
    answer = service.api("POST", f"/sessions/{session_id}/execute", json=HELLO, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    result = service.api("GET", f"/executions/{answer.json()['execution_id']}/result?wait=30").json()
    assert result["status"] == "success", result
    return result["return_value"]


def new_session(service: Service) -> str:
    answer = service.api("POST", "/sessions", json={"template_id": "python-basic"}, headers={"Prefer": "wait=30"})
    assert answer.json()["status"] == "running", answer.text
    return answer.json()["session_id"]


def test_it_starts_mends_itself_and_ends_without_remainders(service: Service) -> None:
    said = service.console()
    assert "Hello, Alice!" in said
    assert service.session.get(f"{service.url}/ready").status_code == 200
    for name in ("token", "admin-password"):
        path = service.state / name
        assert path.stat().st_mode & 0o777 == 0o600
        secret = path.read_text().strip()
        assert secret in said, "it is shown once"
        for log in (service.state / "logs").iterdir():
            assert secret not in log.read_text(), f"{name} stands in {log.name}"
    readable = [path.name for path in service.state.glob("db.sqlite3*") if path.stat().st_mode & 0o077]
    assert not readable, "code, outputs and password hashes are in there"

    # The line that is printed to be tried works as it is.
    command = re.search(r"Try it:\n(.*?)\n\n", said, re.DOTALL)
    assert command
    tried = subprocess.run(["bash", "-c", command[1]], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert '"status":"running"' in tried.stdout.replace(": ", ":"), tried

    # Another one on the same folder is refused, in one line.
    again = subprocess.run(
        [sys.executable, "manage.py", "up"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "SANDBOX_STATE_DIR": str(service.state), "DJANGO_SETTINGS_MODULE": "sandbox_platform.settings"},
    )  # fmt: skip
    assert again.returncode == 1
    assert "runs already" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1

    # A worker that is killed while idle may take a lock with it: its whole group is replaced.
    session_id = new_session(service)
    for kind in ("worker:runs", "worker:lifecycle"):
        before = until(lambda kind=kind: workers_of(service, kind))
        os.kill(min(before), signal.SIGKILL)
        until(lambda kind=kind, before=before: workers_of(service, kind) - before)
    # So is a web server.
    web = until(lambda: workers_of(service, "web"))
    os.kill(os.getpgid(min(web)), signal.SIGKILL)
    until(lambda: "web ended with signal SIGKILL" in service.console())
    until(lambda: _ready(service))
    assert run_hello(service, session_id) == 42

    service.stop()
    assert service.process is not None
    assert service.process.returncode == 0, service.console()
    assert service.console().endswith("Stopped.\n")
    assert processes_of(service) == []
    assert mounts_of(service) == []
    assert list((service.state / "sandboxes").iterdir()) == []


def test_sandboxes_outlive_a_supervisor_that_is_killed_and_nothing_else_does(service: Service) -> None:
    session_id = new_session(service)
    assert service.process is not None
    service.process.kill()
    service.process.wait()
    until(lambda: not [line for line in processes_of(service) if "supervisor.child" in line])
    assert mounts_of(service), "the sandbox is still there"
    began = time.monotonic()
    (service.state / "console.txt").write_text("")
    service.start()
    assert time.monotonic() - began < 30
    assert "token" in service.console()
    assert service.token not in service.console(), "it is shown only once"
    assert run_hello(service, session_id) == 42
    service.stop(signal.SIGTERM)
    assert service.process.returncode == 0, service.console()
    assert processes_of(service) == []
    assert mounts_of(service) == []


def _ready(service: Service) -> bool:
    try:
        return service.session.get(f"{service.url}/ready", timeout=5).status_code == 200
    except OSError:
        return False
