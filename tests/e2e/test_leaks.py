"""Twenty sessions in a row, half of them killed from outside: nothing stays behind, and no row lies."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

import docker
import pytest
import requests

from tests.api.client import eventually
from tests.e2e.remains import command, remains
from tests.e2e.service import Service

ENDED = ("terminated", "failed", "timeout")
HELLO = {"language": "python", "code": "def handler(event):\n    return {'n': event['n']}"}


@pytest.mark.e2e
@pytest.mark.timeout(480)
def test_twenty_sessions_leave_nothing(service: Service) -> None:
    end_all(service)
    before = eventually(lambda: kinds(service), 60)
    sessions = [one_session(service, number) for number in range(20)]

    for session_id in sessions:
        session = eventually(lambda pk=session_id: ended(service, pk), 60)
        assert session["status_reason"], session
    try:
        eventually(lambda: kinds(service) == before, 60)
    except AssertionError:
        pytest.fail(f"{kinds(service)} instead of {before}: {remains(service)}; {service.console()[-4000:]}")
    assert service.api("GET", "/containers?status=running").json()["total"] == 0
    assert not unfinished(service, sessions)


def end_all(service: Service) -> None:
    """What other tests of this service have left alive."""
    for status in ("creating", "running"):
        for session in service.api("GET", f"/sessions?status={status}&limit=200").json()["sessions"]:
            service.api("DELETE", f"/sessions/{session['session_id']}")


def one_session(service: Service, number: int) -> str:
    """Created, used, and ended in one of four ways."""
    session = service.api(
        "POST", "/sessions", json={"template_id": "python-basic"}, headers={"Prefer": "wait=60"}
    ).json()
    session_id = session["session_id"]
    if number % 4 == 3:
        kill_a_worker(service)
    run = service.api(
        "POST", f"/sessions/{session_id}/execute", json={**HELLO, "event": {"n": number}}, headers={"Prefer": "wait=60"}
    ).json()
    result = eventually(lambda: final(service, run["execution_id"]), 60)
    assert result["return_value"] == {"n": number}, result
    if number % 4 == 1:
        kill_sandbox(service, session["container_id"])
    else:
        assert service.api("DELETE", f"/sessions/{session_id}").status_code == 200
    return session_id


def final(service: Service, execution_id: str) -> dict | None:
    result = service.api("GET", f"/executions/{execution_id}/result?wait=10").json()
    return result if result["status"] in ("success", "failed", "timeout") else None


def ended(service: Service, session_id: str) -> dict | None:
    session = service.api("GET", f"/sessions/{session_id}").json()
    return session if session["status"] in ENDED else None


def unfinished(service: Service, sessions: list[str]) -> list[dict]:
    """Executions that are still pending or running though their sessions are over."""
    rows = [row for pk in sessions for row in service.api("GET", f"/sessions/{pk}/executions").json()["executions"]]
    return [row for row in rows if row["status"] in ("pending", "running")]


def kill_sandbox(service: Service, container_id: str) -> None:
    if service.runtime == "docker":
        docker.from_env().containers.get(container_id).remove(force=True)
    else:
        os.kill(sandbox_pids(service)[container_id], signal.SIGKILL)


def kill_a_worker(service: Service) -> None:
    """One process of the lifecycle workers."""
    os.kill(max(children(service, "lifecycle")), signal.SIGKILL)


def children(service: Service, part: str) -> list[int]:
    assert service.process
    mark = f"supervisor.child {service.process.pid} {part}"
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if mark in command(entry)]


def sandbox_pids(service: Service) -> dict[str, int]:
    """Host pid of each bubblewrap sandbox by short container id."""
    import json

    metas = [json.loads(path.read_text()) for path in service.state.glob("sandboxes/**/meta.json")]
    return {meta["ref"][:12]: meta["pid"] for meta in metas if "ref" in meta}  # others are half made


def kinds(service: Service) -> Counter[str]:
    """How many remains there are of each kind while there is the full warm pool and nothing else; none at other times."""
    metrics = requests.get(f"{service.url}/metrics", timeout=10).text
    lively = [row for row in metrics.splitlines() if re.match(r'sandbox_containers{status="(?!removed|lost)', row)]
    if lively != ['sandbox_containers{status="warm"} 2.0']:
        return Counter()
    return Counter(line.split()[0] for line in remains(service))
