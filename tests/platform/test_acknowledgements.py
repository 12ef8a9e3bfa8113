"""A result is acknowledged once it is stored: beside a sandbox that hangs, and again where an acknowledgement got lost."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from executions_app.models import Execution
from executions_app.services.here import drive_here
from executions_app.services.loop import loop
from sandbox_platform import processes
from tests.api.client import eventually
from tests.executors import DONE, executor, refusal, result
from tests.factories import ExecutionFactory

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_sandbox_that_hangs_does_not_keep_the_memory_of_others(tmp_path: Path) -> None:
    def hangs_then(request: str, connection: socket.socket) -> None:
        if request.startswith("PUT"):
            connection.sendall(result())
        else:
            hung.over.wait(60)

    def sound(request: str, connection: socket.socket) -> None:
        connection.sendall(result() if request.startswith("PUT") else DONE)

    with executor(tmp_path / "1.sock", hangs_then) as hung, executor(tmp_path / "2.sock", sound) as other:
        busy = hung.session()
        first = [hung.execution(busy, driver=processes.own_id()) for _ in range(4)]
        last = other.execution(other.session(), driver=processes.own_id())
        for execution in (*first, last):
            assert drive_here(execution, 20)
        began = time.monotonic()
        eventually(lambda: f"DELETE {last.pk}" in other.asked)
        assert time.monotonic() - began < 4
        eventually(lambda: all(hung.asked.count(f"DELETE {run.pk}") == 2 for run in first))


def test_what_was_not_acknowledged_is_when_the_executor_is_full(tmp_path: Path) -> None:
    held: set[str] = set()

    def behave(request: str, connection: socket.socket) -> None:
        verb, run_id = request.split()
        if verb == "DELETE":
            connection.sendall(DONE if run_id in held else refusal(410, "gone"))
            held.discard(run_id)
        else:
            connection.sendall(refusal(503, "full") if held else result())

    with executor(tmp_path / "x.sock", behave) as sandbox:
        session_id = sandbox.session()
        run = sandbox.execution(session_id, driver=processes.own_id())
        old = [ExecutionFactory(session=run.session, status="completed", attempt=n) for n in (1, 1, 2)]
        # The last was lost once, and tried again.
        held.update([old[0].pk, old[2].pk, f"{old[2].pk}-2"])
        loop().submit(Execution.objects.select_related("session__container").get(pk=run.pk))
        eventually(lambda: Execution.objects.get(pk=run.pk).status == "completed")
        assert not held
        assert sandbox.asked.count(f"PUT {run.pk}") == 2
