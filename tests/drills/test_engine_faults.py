"""Faults of a real Docker engine: each ends in the state that is promised, by itself."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from runtime.models import Container, Node
from sessions_app.models import Session
from sessions_app.services import provision
from templates_app.models import Template
from tests.api.client import Api, eventually
from tests.drills.conftest import SLOW
from tests.engine import RUNSC, Engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300), pytest.mark.xdist_group("own-engine")]
HELLO = "def handler(event):\n    return 42"
WAITS = """
import os, time
def handler(event):
    open("begun", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.05)
    return 7
"""


def session_of(api: Api, session_id: str) -> dict:
    return api.get(f"/sessions/{session_id}").json()


def ended(api: Api, session_id: str, seconds: float = 60) -> tuple[str, str]:
    """Status and reason, once there are any."""
    found = eventually(lambda: (s := session_of(api, session_id))["status_reason"] and s, seconds)
    return found["status"], found["status_reason"]


def begun(api: Api, session_id: str) -> str:
    """The id of a run that waits for the file `go`, once it runs."""
    answer = api.post(f"/sessions/{session_id}/execute", {"language": "python", "code": WAITS, "timeout": 120})
    eventually(lambda: api.get(f"/sessions/{session_id}/files/begun").status_code == 200)
    return answer.json()["execution_id"]


def result(api: Api, execution_id: str, seconds: float = 60) -> dict:
    def look() -> dict | None:
        found = api.get(f"/executions/{execution_id}/result?wait=5").json()
        return found if found["status"] not in ("pending", "running") else None

    return eventually(look, seconds)


def test_a_container_that_somebody_removes(drill: Api, engine: Engine) -> None:
    session_id = drill.session()
    execution = begun(drill, session_id)
    engine.client.containers.get(session_of(drill, session_id)["container_id"]).remove(force=True)
    found = time.monotonic()
    assert ended(drill, session_id) == ("failed", "container_lost")
    assert time.monotonic() - found < 10
    lost = result(drill, execution)
    assert lost["status"] == "failed" and lost["error"]["error_code"] in ("Sandbox.ExecLost", "Sandbox.SessionEnded")


def test_an_image_that_is_gone_is_made_anew(drill: Api, engine: Engine) -> None:
    for image in engine.client.images.list("sandbox/python"):
        engine.client.images.remove(image.id, force=True)
    answer = drill.post("/sessions", {"template_id": "python-basic"})
    assert ended(drill, answer.json()["session_id"]) == ("failed", "image_unavailable")
    # It waits for the image, or finds it made.
    again = drill.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    eventually(lambda: session_of(drill, again)["status"] == "running", 120)
    assert drill.run(again, HELLO)["return_value"] == 42


@SLOW
def test_an_engine_that_is_killed_and_comes_back(drill: Api, engine: Engine) -> None:
    session_id = drill.session()
    execution = begun(drill, session_id)
    engine.restart(live_restore=False)
    assert ended(drill, session_id) == ("failed", "container_lost")
    assert result(drill, execution)["status"] == "failed"
    assert drill.run(drill.session(), HELLO)["return_value"] == 42


@SLOW
def test_with_live_restore_runs_outlive_the_engine(drill: Api, engine: Engine) -> None:
    engine.restart(live_restore=True)
    eventually(lambda: Node.objects.get().ready, 30)
    session_id = drill.session()
    execution = begun(drill, session_id)
    engine.restart(live_restore=True)
    assert drill.upload(session_id, "go", b"").status_code == 200
    assert result(drill, execution)["return_value"] == 7
    eventually(lambda: Node.objects.get().failed_probes == 0, 30)
    assert session_of(drill, session_id)["status"] == "running"
    assert drill.run(session_id, HELLO)["return_value"] == 42


@SLOW
def test_an_engine_that_is_down(drill: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision, "START_DEADLINE", 8.0)
    engine.kill()
    late = drill.post("/sessions", {"template_id": "python-basic"})
    assert late.status_code == 201
    assert ended(drill, late.json()["session_id"]) == ("failed", "start_failed")
    engine.start()
    assert drill.run(drill.session(), HELLO)["return_value"] == 42


@SLOW
def test_an_engine_that_hangs(drill: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision, "START_DEADLINE", 12.0)
    session_id = drill.session()
    engine.hang()
    try:
        late = drill.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
        eventually(lambda: Node.objects.get().failed_probes > 0, 30)
        # What needs no engine does not notice.
        began = time.monotonic()
        assert drill.run(session_id, HELLO)["return_value"] == 42
        assert drill.get("/sessions").status_code == 200
        assert time.monotonic() - began < 5
        assert ended(drill, late, 90) == ("failed", "start_failed")
        assert session_of(drill, session_id)["status"] == "running"
    finally:
        engine.go_on()
    eventually(lambda: Node.objects.get().failed_probes == 0, 60)
    assert drill.run(drill.session(), HELLO)["return_value"] == 42


@SLOW
def test_sessions_under_way_and_an_engine_that_dies_among_them(drill: Api, engine: Engine) -> None:
    sessions: list[str] = []

    def create() -> None:
        for _ in range(5):
            sessions.append(drill.post("/sessions", {"template_id": "python-basic"}).json()["session_id"])

    thread = threading.Thread(target=create)
    thread.start()
    engine.restart(live_restore=False)
    thread.join(60)
    # Each comes up after all, or says why not.
    for session_id in sessions:
        eventually(lambda pk=session_id: session_of(drill, pk)["status"] != "creating", 120)
    assert Session.objects.filter(status="running").exists()


@pytest.mark.skipif(not Path(RUNSC["path"]).exists(), reason="runsc is not installed")
def test_a_template_with_gvisor(drill: Api) -> None:
    Template.objects.update(oci_runtime="runsc")
    session_id = drill.session()
    assert Container.objects.get(session=session_id).isolation["kernel"] == "gvisor"
    assert drill.run(session_id, HELLO)["return_value"] == 42


def test_a_runtime_that_the_engine_has_not(drill: Api) -> None:
    Template.objects.update(oci_runtime="kata")
    session_id = drill.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    assert ended(drill, session_id) == ("failed", "start_failed")
    assert "runtime" in session_of(drill, session_id)["status_detail"]
