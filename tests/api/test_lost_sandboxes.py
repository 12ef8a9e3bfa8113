"""What becomes of runs whose sandbox dies under them: told within 15 s, with the reason, and the session says it too."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from sessions_app.models import Session
from tests.api.client import Api, eventually
from tests.drivers.conftest import host_pid

pytestmark = pytest.mark.bubblewrap
WITHIN = 15.0
SLEEPER = "import time\nprint('begun', flush=True)\ntime.sleep(300)"
HOG = "kept = []\nwhile True: kept.append(bytearray(b'x' * 10_000_000))"

# Many small processes, which are as little to blame as the kernel lets them.
HORDE = """
import os, time
print("begun", flush=True)
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("500")
while True:
    if os.fork() == 0:
        kept = bytearray(b"x" * 8_000_000)
        time.sleep(300)
"""


def container(session_id: str) -> Any:
    return Session.objects.select_related("container").get(pk=session_id).container


def executor_pid(session_id: str) -> int:
    """On this host: whose end is the end of the sandbox."""

    class Sandbox:
        socket = Path(container(session_id).socket)

    return host_pid(Sandbox)


def begun(api: Api, session_id: str) -> Any:
    """Until the run is known to have said so, or is over already: a sandbox may die faster than anybody can look into it.

    A file that it writes would not do: what it has printed is kept once its executor has read it, not before.
    """

    def seen() -> bool:
        for run in api.get(f"/sessions/{session_id}/executions?status=running").json()["executions"]:
            if api.get(f"/executions/{run['execution_id']}/result").json()["stdout"] == "begun\n":
                return True
        return bool(api.get(f"/sessions/{session_id}").json()["status"] != "running")

    return eventually(seen)


def kill(session_id: str) -> None:
    """And wait until it is dead."""
    process = os.pidfd_open(executor_pid(session_id))
    signal.pidfd_send_signal(process, signal.SIGKILL)
    assert select.select([process], [], [], 10)[0]
    os.close(process)


def queued(api: Api, session_id: str, code: str, act: Callable[[], None]) -> dict[str, Any]:
    """The result of a run that a worker drives, where `act` happens while it runs. It must be there WITHIN seconds."""
    body = {"code": code, "language": "python", "timeout": 300}
    execution = api.post(f"/sessions/{session_id}/execute", body).json()["execution_id"]
    begun(api, session_id)
    act()
    return api.get(f"/executions/{execution}/result?wait={WITHIN:.0f}").json()


def waited_for(api: Api, session_id: str, code: str, act: Callable[[], None]) -> dict[str, Any]:
    """The same, where the thread of the request drives."""

    def later() -> None:
        begun(api, session_id)
        act()
        connections.close_all()

    thread = threading.Thread(target=later)
    thread.start()
    body = {"code": code, "language": "python", "timeout": 300}
    answer = api.post(f"/sessions/{session_id}/execute", body, headers={"Prefer": "wait=30"}).json()
    thread.join()
    return answer if "error" in answer else api.get(f"/executions/{answer['execution_id']}/result?wait=15").json()


@pytest.mark.parametrize("run", [queued, waited_for])
def test_a_sandbox_that_is_killed(live: Api, run: Any) -> None:
    session_id = live.session()
    killed_at = []

    def act() -> None:
        killed_at.append(time.monotonic())
        kill(session_id)

    result = run(live, session_id, SLEEPER, act)
    assert time.monotonic() - killed_at[0] < WITHIN
    assert (result["status"], result["error"]["error_code"]) == ("failed", "Sandbox.ExecLost"), result
    assert result["exit_code"] is None and result["stdout"] == "begun\n", result
    session = eventually(lambda: (s := live.get(f"/sessions/{session_id}").json())["status"] == "failed" and s)
    assert session["status_reason"] == "container_lost", session


@pytest.mark.parametrize("run", [queued, waited_for])
def test_a_sandbox_that_dies_of_want_of_memory(live: Api, run: Any) -> None:
    """The kernel is made to choose the executor itself, which it otherwise spares."""
    session_id = live.session(resources={"memory": "256Mi"})
    Path(f"/proc/{executor_pid(session_id)}/oom_score_adj").write_text("1000")
    result = run(live, session_id, HORDE, lambda: None)
    assert (result["status"], result["error"]["error_code"]) == ("failed", "Sandbox.ExecOutOfMemory"), result
    session = eventually(lambda: (s := live.get(f"/sessions/{session_id}").json())["status"] == "failed" and s)
    assert session["status_reason"] == "oom_killed", session


def test_a_run_that_dies_of_want_of_memory_leaves_its_session(live: Api) -> None:
    session_id = live.session(resources={"memory": "256Mi"})
    result = live.run(session_id, HOG)
    assert (result["status"], result["error"]["error_code"]) == ("failed", "Sandbox.ExecOutOfMemory"), result
    assert result["exit_code"] == 137 and result["metrics"]["peak_memory_mb"] > 50
    assert live.run(session_id, "def handler(event): return 1")["return_value"] == 1


def test_a_sandbox_that_is_stopped_does_not_stop_the_clock(live: Api) -> None:
    session_id = live.session()
    body = {"language": "python", "code": SLEEPER, "timeout": 2}
    execution_id = live.post(f"/sessions/{session_id}/execute", body).json()["execution_id"]
    begun(live, session_id)
    executor = os.pidfd_open(executor_pid(session_id))
    signal.pidfd_send_signal(executor, signal.SIGSTOP)

    def ended() -> Any:
        result = live.get(f"/executions/{execution_id}/result?wait=5").json()
        return result if result["status"] in ("failed", "timeout") else None

    try:
        result = eventually(ended, 2 + WITHIN)
        assert (result["status"], result["error"]["error_code"]) == ("timeout", "Sandbox.ExecTimeout")
        # A sandbox that does not keep its deadlines is not given another run.
        eventually(lambda: live.get(f"/sessions/{session_id}").json()["status"] == "failed")
    finally:
        signal.pidfd_send_signal(executor, signal.SIGCONT)
        os.close(executor)
