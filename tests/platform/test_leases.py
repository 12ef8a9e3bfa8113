"""A run that is leased to a living process which does not know of it: it is given back, and goes on."""

from __future__ import annotations

import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import OperationalError, connection, connections

from executions_app.models import Execution
from executions_app.services import claim, leases, submit, sweep
from executions_app.services.here import drive_here
from sandbox_platform import processes
from sandbox_platform.queue import Queue
from sessions_app.models import Session
from tests import cut, workers
from tests.api.client import eventually
from tests.executors import Executor, executor, result
from tests.factories import ExecutionFactory, SessionFactory, issue

pytestmark = pytest.mark.django_db(transaction=True)
VALUES = {"language": "python", "code": "print(1)", "event": "{}", "timeout": 30}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Executor]:
    def behave(request: str, connection: socket.socket) -> None:
        connection.sendall(result())

    with executor(tmp_path / "x.sock", behave) as made:
        yield made


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[cut.Wire]:
    with tempfile.TemporaryDirectory(prefix="sbxw-") as folder, cut.wire(monkeypatch, Path(folder)) as made:
        yield made


def goes_on(pk: str) -> None:
    """Nobody drives it; the heartbeat's thread notices, and a worker takes over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "BEAT_SECONDS", 0.02)
        eventually(lambda: Execution.objects.filter(pk=pk, driver=None).exists())
    sweep.reattach_orphans()
    assert workers.run_one(Queue.RUNS)
    eventually(lambda: Execution.objects.filter(pk=pk, status="completed").exists())


@pytest.mark.postgres
def test_a_claim_whose_answer_is_lost(sandbox: Executor, wire: cut.Wire) -> None:
    session_id = sandbox.session()
    waiting = ExecutionFactory(session=Session.objects.get(pk=session_id))
    processes.own_id()
    wire.cut_behind(b"WITH heard")
    with pytest.raises(OperationalError):
        claim.eldest(session_id)
    connection.close()  # as before the next task
    assert Execution.objects.get(pk=waiting.pk).status == "running"
    goes_on(waiting.pk)


@pytest.mark.postgres
def test_a_start_whose_answer_is_lost(sandbox: Executor, wire: cut.Wire) -> None:
    session = Session.objects.get(pk=sandbox.session())
    key, _token = issue(session.project)
    processes.own_id()
    wire.cut_behind(b"INSERT INTO")
    with pytest.raises(OperationalError):
        submit.submit_here(key, session.pk, VALUES, "")
    connection.close()  # as at the end of a request
    started = Execution.objects.get()
    assert started.status == "running"
    goes_on(started.pk)


def test_what_is_driven_stays() -> None:
    own = processes.own_id()
    driven, forgotten = (
        ExecutionFactory(session=SessionFactory(running=True), status="running", driver=own) for _ in "ab"
    )
    others = ExecutionFactory(session=forgotten.session, status="running", driver=None)
    with leases.driving(driven.pk):
        with leases.driving(driven.pk):
            leases.give_back(own)
        assert Execution.objects.filter(driver=own).count() == 2, (
            "once is not enough: it may be on its way to its driver"
        )
        leases.give_back(own)
        assert [row.pk for row in Execution.objects.filter(driver=own)] == [driven.pk]
    leases.give_back(own)
    leases.give_back(own)
    assert set(Execution.objects.filter(driver=None)) == {driven, forgotten, others}


def test_who_was_taken_for_dead_does_not_end_the_try_that_its_successor_began(tmp_path: Path) -> None:
    """Both have read that the first was lost."""
    successor = uuid.uuid4()

    def behave(request: str, connection: socket.socket) -> None:
        if request.startswith("PUT"):
            Execution.objects.update(attempt=2, driver=successor)
            connections.close_all()
            connection.sendall(result("lost"))

    with executor(tmp_path / "x.sock", behave) as sandbox:
        execution = sandbox.execution(sandbox.session(), retry_lost=True, driver=processes.own_id())
        assert not drive_here(execution, 20)
    execution.refresh_from_db()
    assert (execution.status, execution.attempt, execution.driver) == ("running", 2, successor)


def test_a_lost_run_that_is_to_end_is_not_tried_again(tmp_path: Path) -> None:
    def behave(request: str, connection: socket.socket) -> None:
        connection.sendall(result("lost"))

    with executor(tmp_path / "x.sock", behave) as sandbox:
        execution = sandbox.execution(sandbox.session(), retry_lost=True, driver=processes.own_id())
        submit.cancel(execution)
        assert drive_here(execution, 20)
    execution.refresh_from_db()
    assert (execution.status, execution.attempt) == ("failed", 1)
