"""PostgreSQL is gone for a while, as after a power failure: clients are told, sandboxes go on, and no result is lost."""

from __future__ import annotations

import re
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import postgres
from tests.api.client import eventually
from tests.drills.conftest import SLOW
from tests.e2e.service import Service

pytestmark = [pytest.mark.bubblewrap, pytest.mark.e2e, pytest.mark.timeout(400), SLOW]
WAITS = """
import os, time
def handler(event):
    open("begun", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.05)
    return 7
"""


@pytest.fixture
def database() -> Iterator[postgres.Server]:
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL server is installed")
    with tempfile.TemporaryDirectory(prefix="sbxpg-") as folder:
        server = postgres.Server(Path(folder), durable=True)
        server.make()
        server.start()
        yield server
        server.stop()


@pytest.fixture
def service(database: postgres.Server) -> Iterator[Service]:
    made = Service("bubblewrap", DATABASE_URL=database.url)
    try:
        made.start()
        yield made
    finally:
        made.remove()


def test_a_run_outlives_its_database(service: Service, database: postgres.Server) -> None:
    session_id = service.api(
        "POST", "/sessions", json={"template_id": "python-basic"}, headers={"Prefer": "wait=60"}
    ).json()["session_id"]
    run = service.api(
        "POST", f"/sessions/{session_id}/execute", json={"language": "python", "code": WAITS, "timeout": 300}
    )
    execution_id = run.json()["execution_id"]
    eventually(lambda: service.api("GET", f"/sessions/{session_id}/files/begun").status_code == 200, 60)

    database.stop(signal.SIGQUIT)
    began = time.monotonic()
    answer = service.api("GET", f"/sessions/{session_id}")
    assert (answer.status_code, answer.json()["error_code"]) == (503, "Sandbox.ServiceUnavailable"), answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - began < 5
    assert requests.get(f"{service.url}/ready", timeout=10).status_code == 503
    assert requests.get(f"{service.url}/health", timeout=10).status_code == 200

    database.start()
    eventually(lambda: requests.get(f"{service.url}/ready", timeout=10).status_code == 200, 60)
    assert service.api("GET", f"/sessions/{session_id}").json()["status"] == "running"
    upload = {"files": {"file": ("go", b"")}, "data": {"path": "go"}}
    assert service.api("POST", f"/sessions/{session_id}/files/upload", **upload).status_code == 200
    result = eventually(lambda: ended(service, execution_id), 90)
    assert (result["status"], result["return_value"]) == ("success", 7), result
    assert service.api("DELETE", f"/sessions/{session_id}").status_code == 200


def test_sessions_that_are_being_made_outlive_their_database(service: Service, database: postgres.Server) -> None:
    body = {"template_id": "python-basic", "resources": {"cpu": "0.5", "memory": "256Mi"}}
    sessions = [service.api("POST", "/sessions", json=body).json()["session_id"] for _ in range(8)]
    database.stop(signal.SIGQUIT)
    database.start()
    eventually(lambda: requests.get(f"{service.url}/ready", timeout=10).status_code == 200, 60)
    for session_id in sessions[:4]:
        end(service, session_id)
    for session_id in sessions[4:]:
        eventually(lambda pk=session_id: service.api("GET", f"/sessions/{pk}").json().get("status") == "running", 90)
        end(service, session_id)
    eventually(lambda: only_the_pool(service), 90)


def end(service: Service, session_id: str) -> None:
    """As a client does that repeats what was answered 503."""
    eventually(lambda: service.api("DELETE", f"/sessions/{session_id}?purge=true").status_code == 200, 30)


def only_the_pool(service: Service) -> bool:
    """Whether the warm pool of two is all that there is, in rows and on the host."""
    metrics = requests.get(f"{service.url}/metrics", timeout=10).text
    rows = re.findall(r'sandbox_containers{status="(?!removed|lost)(\w+)"} (\S+)', metrics)
    return rows == [("warm", "2.0")] and len(list((service.state / "sandboxes").glob("sbx-*"))) == 2


def ended(service: Service, execution_id: str) -> dict | None:
    """Its result, once there is one."""
    found = service.api("GET", f"/executions/{execution_id}/result?wait=5").json()
    return found if found["status"] not in ("submitted", "pending", "running") else None
