"""Runs that wait: each starts once and in order, however often the doorbell rings; one that can't be followed is given up.

QUEUED_RUNS=1000 for the size of the case.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import drive
from sandbox_platform.queue import Queue, depth, enqueue
from sessions_app.models import Session
from tests.api.client import Api, eventually

pytestmark = pytest.mark.bubblewrap
QUEUED = int(os.environ.get("QUEUED_RUNS", "40"))
HELD = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)"
START = "import os\nfd = os.open('starts', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\nos.write(fd, b'%d\\n')"


def submit(api: Api, session_id: str, code: str) -> str:
    answer = api.post(f"/sessions/{session_id}/execute", {"code": code, "language": "python", "timeout": 120})
    assert answer.status_code == 200, answer.content
    return answer.json()["execution_id"]


@pytest.mark.timeout(120 + QUEUED)
def test_those_who_wait_start_once_and_in_order(live: Api) -> None:
    sessions = [live.session(max_concurrency=1) for _ in range(2)]
    for session_id in sessions:
        submit(live, session_id, HELD)
    waiting = {session_id: [submit(live, session_id, START % n) for n in range(QUEUED // 2)] for session_id in sessions}

    def ring(session_id: str) -> None:
        enqueue(Queue.RUNS, "executions_app.tasks.dispatch", session_id)
        connections.close_all()

    with ThreadPoolExecutor(5) as bells:  # the same task, delivered again and again, from the beginning to the end
        list(bells.map(ring, sessions * 10))
        for session_id in sessions:
            assert live.upload(session_id, "go", b"").status_code == 200
        list(bells.map(ring, sessions * 10))
    running = Execution.objects.exclude(status=ExecutionStatus.COMPLETED)
    eventually(lambda: not running.exists(), 60 + QUEUED)
    for session_id, executions in waiting.items():
        starts = live.get(f"/sessions/{session_id}/files/starts").getvalue().split()
        assert [int(number) for number in starts] == list(range(len(executions)))
        times = list(
            Execution.objects.filter(pk__in=executions).order_by("number").values_list("started_at", flat=True)
        )
        assert times == sorted(times)
    assert set(Session.objects.filter(pk__in=sessions).values_list("active_runs", flat=True)) == {0}


@pytest.mark.parametrize("prefer", [{}, {"Prefer": "wait=20"}])
def test_a_run_that_nobody_can_follow_is_given_up(live: Api, prefer: dict[str, str]) -> None:
    """Its row is broken: whoever takes it fails. It must not go round for ever, and nothing else may suffer."""
    session_id = live.session(max_concurrency=1)
    submit(live, session_id, HELD)
    broken = submit(live, session_id, "print(1)")
    Execution.objects.filter(pk=broken).update(env_sealed=b"not sealed by us")
    assert live.upload(session_id, "go", b"").status_code == 200
    result = live.get(f"/executions/{broken}/result?wait=30").json()
    assert (result["status"], result["error"]["error_code"]) == ("failed", "Sandbox.ExecLost"), result
    assert Execution.objects.get(pk=broken).takeovers == drive.MAX_TAKEOVERS + 1
    answer = live.post(f"/sessions/{session_id}/execute", {"code": "print(2)", "language": "python"}, headers=prefer)
    assert live.get(f"/executions/{answer.json()['execution_id']}/result?wait=20").json()["stdout"] == "2\n"
    eventually(lambda: depth(Queue.RUNS) == 0)
