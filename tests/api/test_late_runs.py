"""The host's own timer is for sandboxes that don't keep their deadlines, and for them alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from executions_app.services import drive
from runtime.drivers.errors import ExecutorUnavailable
from runtime.drivers.executor_client import AsyncExecutorClient, Event, ExecutorClient, Result
from sessions_app.models import Session
from tests import zygotes
from tests.api.client import Api, eventually
from tests.drivers.conftest import host_pid

pytestmark = pytest.mark.bubblewrap
HANDLER = "import os\ndef handler(event): return 'well'"
WAYS = pytest.mark.parametrize(
    "headers", [{}, {"Prefer": "wait=30"}], ids=["a worker drives", "the request's thread drives"]
)


def zygote_of(session_id: str) -> int:
    """The host's pid of the process that starts runs."""

    class Sandbox:
        socket = Path(Session.objects.select_related("container").get(pk=session_id).container.socket)

    init = host_pid(Sandbox)
    children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return next(int(pid) for pid in children if "\nUid:\t0\t" in Path(f"/proc/{pid}/status").read_text())


def result(api: Api, session_id: str, headers: dict[str, str], code: str = HANDLER) -> dict[str, Any]:
    body = {"code": code, "language": "python", "timeout": 1}
    answer = api.post(f"/sessions/{session_id}/execute", body, headers=headers).json()
    return eventually(
        lambda: (
            (r := api.get(f"/executions/{answer['execution_id']}/result?wait=5").json())["status"] != "running" and r
        ),
        30,
    )


@WAYS
def test_a_run_that_begins_late_has_all_its_time(
    live: Api, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """Whoever starts runs is stopped for longer than the run may take: an import, or a machine that has too much to do."""
    monkeypatch.setattr(drive, "HOST_GRACE", 0.2)
    session_id = live.session()
    zygote = zygote_of(session_id)
    zygotes.stop(zygote)
    timer = threading.Timer(1 + 2 * drive.HOST_GRACE, os.kill, (zygote, signal.SIGCONT))
    timer.start()
    ended = result(live, session_id, headers)
    timer.join()
    assert (ended["status"], ended["return_value"]) == ("success", "well"), ended
    assert live.get(f"/sessions/{session_id}").json()["status"] == "running"


@WAYS
def test_a_result_that_is_there_counts_even_if_it_was_not_told_in_time(
    live: Api, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """The connection hangs and breaks just as the result would come."""
    monkeypatch.setattr(drive, "HOST_GRACE", 0.2)
    real, real_async = ExecutorClient.run, AsyncExecutorClient.run

    def run(self: ExecutorClient, run_id: str, request: Any, patience: Any) -> Iterator[Event]:
        for event in real(self, run_id, request, patience):
            if isinstance(event, Result):
                time.sleep(max(0, patience.left))
                raise ExecutorUnavailable("cut")
            yield event

    async def run_async(self: AsyncExecutorClient, *args: Any) -> AsyncIterator[Event]:
        async for event in real_async(self, *args):
            if isinstance(event, Result):
                time.sleep(max(0, args[-1].left))
                raise ExecutorUnavailable("cut")
            yield event

    monkeypatch.setattr(ExecutorClient, "run", run)
    monkeypatch.setattr(AsyncExecutorClient, "run", run_async)
    session_id = live.session()
    ended = result(live, session_id, headers, "print('said')\n" + HANDLER)
    assert (ended["status"], ended["return_value"], ended["stdout"]) == ("success", "well", "said\n"), ended
    assert live.get(f"/sessions/{session_id}").json()["status"] == "running"
