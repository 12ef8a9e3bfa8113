"""Heartbeats, and telling the dead from the slow by the observer's own clock."""

from __future__ import annotations

import signal

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError
from django.db.models import F

from executions_app.management.commands import ticker
from executions_app.services import claim, drive, sweep
from sandbox_platform import processes
from sandbox_platform.models import Process
from sandbox_platform.queue import Queue, depth
from tests import workers
from tests.factories import ExecutionFactory

pytestmark = pytest.mark.django_db
STALE = settings.PROCESS_STALE_AFTER


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(processes.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process.objects.create(kind="worker:runs", host="h", pid=1)


def dead(process: Process) -> bool:
    process.refresh_from_db()
    return process.dead_at is not None


def beat(process: Process) -> None:
    Process.objects.filter(pk=process.pk).update(beats=F("beats") + 1)


def test_one_that_beats_lives(clock: Clock, process: Process) -> None:
    observer = processes.Observer()
    for _ in range(10):
        beat(process)
        assert observer.bury_the_dead() == 0
        clock.now += STALE - 1
    assert not dead(process)


def test_one_that_has_not_beaten_for_so_long_is_dead(clock: Clock, process: Process) -> None:
    observer = processes.Observer()
    observer.bury_the_dead()
    for _ in range(int(STALE)):
        clock.now += 1
        assert observer.bury_the_dead() == 0
    clock.now += 1
    assert observer.bury_the_dead() == 1
    assert dead(process)
    assert observer.bury_the_dead() == 0


def test_a_new_observer_gives_everybody_time(clock: Clock, process: Process) -> None:
    processes.Observer().bury_the_dead()
    clock.now += 1000
    assert processes.Observer().bury_the_dead() == 0


def test_an_observer_that_was_away_itself_blames_nobody_who_beat_meanwhile(clock: Clock, process: Process) -> None:
    observer = processes.Observer()
    observer.bury_the_dead()
    clock.now += 1000
    beat(process)
    assert observer.bury_the_dead() == 0


def test_an_observer_that_was_held_up_gives_everybody_time(clock: Clock, process: Process) -> None:
    """By a database that did not answer: nobody could beat."""
    observer = processes.Observer()
    observer.bury_the_dead()
    clock.now += STALE + 1
    assert observer.bury_the_dead() == 0
    clock.now += 2
    assert observer.bury_the_dead() == 0
    beat(process)
    clock.now += 2
    assert observer.bury_the_dead() == 0


def test_the_ticker_begins_to_observe_anew_when_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    observers: list[processes.Observer] = []

    def tick(observer: processes.Observer, count: int) -> None:
        observers.append(observer)
        if count == 1:
            raise OperationalError("the connection is lost")
        if count == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ticker, "TICK", 0)
    monkeypatch.setattr(ticker, "tick", tick)
    monkeypatch.setattr(ticker.connection, "close", lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        call_command("ticker")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    first, second, third, fourth = observers
    assert first is second and second is not third and third is fourth


def test_a_jump_of_the_wall_clock_means_nothing(clock: Clock, process: Process) -> None:
    observer = processes.Observer()
    observer.bury_the_dead()
    Process.objects.update(started_at="2001-01-01T00:00:00Z")
    assert observer.bury_the_dead() == 0


def test_one_that_retires_is_dead_at_once() -> None:
    pk = processes.own_id()
    processes.retire()
    assert Process.objects.get(pk=pk).dead_at


def test_a_process_has_one_row() -> None:
    assert processes.own_id() == processes.own_id()
    assert Process.objects.filter(pk=processes.own_id()).count() == 1


def test_runs_of_a_dead_process_are_taken_over_once(clock: Clock, process: Process) -> None:
    orphan = ExecutionFactory(session__status="running", session__active_runs=1, status="running", driver=process.pk)
    sweep.reattach_orphans()
    assert depth(Queue.RUNS) == 0
    assert drive.take_over(orphan.pk) is None
    Process.objects.filter(pk=process.pk).update(dead_at="2026-01-01T00:00:00Z")
    sweep.reattach_orphans()
    assert depth(Queue.RUNS) == 1
    taken = drive.take_over(orphan.pk)
    assert taken is not None and taken.driver == processes.own_id()
    assert drive.take_over(orphan.pk) is None


def test_a_lease_that_was_given_back_is_taken_over(clock: Clock) -> None:
    orphan = ExecutionFactory(session__status="running", status="running", driver=None)
    sweep.reattach_orphans()
    assert depth(Queue.RUNS) == 1
    assert drive.take_over(orphan.pk) is not None


@pytest.mark.django_db(transaction=True)
def test_only_as_many_runs_begin_as_there_are_slots() -> None:
    first = ExecutionFactory(session__running=True, session__max_concurrency=1)
    second = ExecutionFactory(session=first.session)
    claimed = claim.eldest(first.session_id)
    assert claimed is not None and claimed.pk == first.pk
    assert claim.eldest(first.session_id) is None
    second.refresh_from_db()
    assert second.status == "pending"
    assert not workers.run_one(Queue.RUNS)
