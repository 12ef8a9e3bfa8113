"""kill -9 in the middle of an upload, a copy and a restore, and a storage that is away for a while: nothing is lost or half there.

FILES_OUTAGE=60 makes the outage as long as a minute.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import requirements
from tests.api.client import eventually
from tests.e2e.service import Service
from tests.e2e.test_crash import BROKEN, children, part
from tests.e2e.transfers import MIB, Sending, digest, download, inside, listed, made, new_session, run, upload
from tests.s3 import Server, Wire

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
OUTAGE = float(os.environ.get("FILES_OUTAGE", "10"))
COUNT = 120  # files: more than two batches
MAKE = f"""
import os
os.makedirs('many', exist_ok=True)
for n in range({COUNT}):
    open(f'many/{{n}}', 'w').write(f'{{TURN}}-{{n}}' * 100)
"""


@pytest.fixture(params=["bubblewrap", "docker"])
def crashing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service whose steps can be made fatal by files in `tmp_path`."""
    requirements.need(request.param)
    folder = Path(__file__).parent / "crashpoints"
    service = Service(request.param, CRASH_DIR=str(tmp_path), PYTHONPATH=str(folder))
    try:
        service.start()
        yield service
    finally:
        service.remove()


def debts(service: Service) -> int:
    """How many sessions are owed something."""
    text = requests.get(f"{service.url}/metrics", timeout=30).text
    rows = [line for line in text.splitlines() if line.startswith("sandbox_storage_debts{")]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in rows))


def die_at(folder: Path, step: str) -> None:
    """Have the first process that gets to the step die there, and wait until it has."""
    eventually(lambda: not (folder / step).exists(), 120)


def test_kill_9_in_the_middle_of_an_upload(crashing: Service) -> None:
    session_id = new_session(crashing)
    upload(crashing, session_id, "kept", 1000)
    for last in (False, True):
        sending = Sending(crashing, session_id, "kept", 20 * MIB, last).send(made(10 * MIB))
        eventually(lambda: len(inside(crashing, session_id)) == 2)
        assert crashing.process is not None
        master = part(crashing.process.pid, "web")
        for pid in [*children(master), master]:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises((OSError, *BROKEN)):
            sending.send(made(20 * MIB)).finish()
        eventually(lambda: _answers(crashing, session_id), 60)
        eventually(lambda: inside(crashing, session_id) == ["kept"])
        assert download(crashing, session_id, "kept") == (200, digest(made(1000)))
    assert upload(crashing, session_id, "kept", 20 * MIB)[0] == 200
    assert download(crashing, session_id, "kept") == (200, digest(made(20 * MIB)))


def _answers(service: Service, session_id: str) -> bool:
    try:
        return service.api("GET", f"/sessions/{session_id}").status_code == 200
    except requests.exceptions.ConnectionError:
        return False


def test_kill_9_in_the_middle_of_a_copy_and_of_a_restore(crashing: Service, tmp_path: Path) -> None:
    session_id = new_session(crashing)
    for turn, step in enumerate(("written", "safe", "paid")):
        (tmp_path / f"copies.{step}").touch()
        run(crashing, session_id, MAKE.replace("TURN", str(turn)))
        die_at(tmp_path, f"copies.{step}")
        eventually(lambda: debts(crashing) == 0, 120)
    run(crashing, session_id, MAKE.replace("TURN", "9"))
    for step in ("written", "safe", "paid"):
        (tmp_path / f"copies.{step}").touch()
    crashing.api("DELETE", f"/sessions/{session_id}")
    for step in ("written", "safe", "paid"):
        die_at(tmp_path, f"copies.{step}")
    eventually(lambda: debts(crashing) == 0, 120)
    expected = {f"many/{n}": len(f"9-{n}" * 100) for n in range(COUNT)}
    assert listed(crashing, session_id) == expected
    for n in (0, 60, COUNT - 1):
        assert download(crashing, session_id, f"many/{n}") == (200, digest([f"9-{n}".encode() * 100]))

    (tmp_path / "lifecycle.restored").touch()
    body = {"template_id": "python-basic", "workspace_from": session_id}
    restored = crashing.api("POST", "/sessions", json=body).json()["session_id"]
    die_at(tmp_path, "lifecycle.restored")
    eventually(lambda: crashing.api("GET", f"/sessions/{restored}").json()["status"] == "running", 180)
    assert listed(crashing, restored) == expected
    assert sorted(inside(crashing, restored)) == sorted(["many", *expected])
    assert download(crashing, restored, "many/7") == (200, digest([b"9-7" * 100]))


class Load:
    """Clients that make sessions, files in them, and end them, until they are told to stop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.stop = threading.Event()
        self.ended: dict[str, dict[str, bytes]] = {}
        self.refusals: set[tuple[int, str]] = set()
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self._client, args=(number,)) for number in range(3)]

    def _client(self, number: int) -> None:
        try:
            turn = 0
            while not self.stop.is_set():
                turn += 1
                self._once(f"{number}-{turn}")
        except BaseException as error:
            self.failures.append(error)

    def _once(self, name: str) -> None:
        data = hashlib.sha256(name.encode()).digest() * 20_000
        answer = self.service.api(
            "POST", "/sessions", json={"template_id": "python-basic"}, headers={"Prefer": "wait=30"}
        )
        if not self._fine(answer) or answer.json()["status"] != "running":
            self.stop.wait(1)
            return
        session_id = answer.json()["session_id"]
        form = {"path": (None, "in/up.bin"), "file": ("f", data)}
        upload = self.service.api("POST", f"/sessions/{session_id}/files/upload", files=form)
        assert upload.status_code == 200, upload.text  # the storage has no part in it
        run(
            self.service, session_id, "open('out', 'w').write(event)\ndef handler(e): pass".replace("event", repr(name))
        )
        assert self.service.api("DELETE", f"/sessions/{session_id}").status_code == 200
        self.ended[session_id] = {"in/up.bin": data, "out": name.encode()}
        for path, content in self.ended[session_id].items():
            answer = self.service.api("GET", f"/sessions/{session_id}/files/{path}?redirect=false")
            if self._fine(answer):
                assert answer.content == content

    def _fine(self, answer: requests.Response) -> bool:
        if answer.status_code < 300:
            return True
        self.refusals.add((answer.status_code, answer.json()["error_code"]))
        return False


def end_all(service: Service) -> None:
    """End what the clients left, and wait until nothing is held for it."""
    for status in ("creating", "running"):
        for session in service.api("GET", f"/sessions?status={status}&limit=200").json()["sessions"]:
            service.api("DELETE", f"/sessions/{session['session_id']}")
    eventually(lambda: debts(service) == 0, 60)
    eventually(lambda: not service.api("GET", "/containers?status=running").json()["containers"], 60)


DOCUMENTED = {
    (503, "Sandbox.ServiceUnavailable"), (503, "Sandbox.RuntimeUnavailable"), (503, "Sandbox.TooManyRequestsExection"),
}  # fmt: skip


@pytest.mark.parametrize("runtime", ["bubblewrap", "docker"])
@pytest.mark.parametrize("state", ["down", "cut"])
def test_a_storage_that_is_away_under_load_loses_nothing(runtime: str, state: str, tmp_path: Path) -> None:
    requirements.need(runtime)
    server = Server(tmp_path)
    wire = Wire(server.port)
    service = Service(runtime, WORKSPACE_STORAGE_URL=wire.url)
    try:
        service.start()
        load = Load(service)
        for thread in load.threads:
            thread.start()
        eventually(lambda: load.failures or load.ended, 120)
        before = len(load.ended)
        wire.state = state
        load.stop.wait(OUTAGE)
        wire.state = "up"
        load.stop.set()
        for thread in load.threads:
            thread.join()
        assert not load.failures, load.failures[0]
        assert load.refusals <= DOCUMENTED, load.refusals
        assert len(load.ended) > before
        eventually(lambda: debts(service) == 0, 60)
        for session_id, files in load.ended.items():
            for path, content in files.items():
                assert (server.bucket / "sessions" / session_id / path).read_bytes() == content, (session_id, path)
                answer = service.api("GET", f"/sessions/{session_id}/files/{path}?redirect=false")
                assert (answer.status_code, answer.content) == (200, content)
        end_all(service)  # a service that is stopped leaves those standing whose files are nowhere else
    finally:
        service.remove()
        wire.close()
        server.stop()
