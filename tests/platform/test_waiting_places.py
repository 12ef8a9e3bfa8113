"""Places to wait are bounded, and those who find none are kept from crowding in."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from executions_app.models import ExecutionStatus
from sandbox_platform import prefer
from tests.api.client import Api
from tests.factories import ExecutionFactory, NodeFactory


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1000.0]
    monkeypatch.setattr(prefer.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(prefer, "_places", threading.BoundedSemaphore(1))
    prefer._refusals.clear()
    yield now
    prefer._refusals.clear()


def refuse(times: int) -> None:
    for _ in range(times):
        with prefer.waiting_place() as place:
            assert not place


def test_who_finds_no_place_is_told_to_stay_away_the_longer_the_more_there_are(clock: list[float]) -> None:
    with prefer.waiting_place() as place:
        assert place
        assert prefer.retry_after() == "1"
        refuse(prefer.COME_BACK_RATE)
        assert prefer.retry_after() == "2"
        refuse(9 * prefer.COME_BACK_RATE)
        assert prefer.retry_after() == "11"
        refuse(1000 * prefer.COME_BACK_RATE)
        assert prefer.retry_after() == str(prefer.LONGEST_ABSENCE)
    clock[0] += 1.1
    assert prefer.retry_after() == "1"
    with prefer.waiting_place() as place:
        assert place


def test_a_crowd_that_obeys_settles_at_a_bounded_rate(clock: list[float]) -> None:
    """A thousand clients who never find a place, simulated by the tenth of a second."""
    back_at = [clock[0] + number / 1000 for number in range(1000)]
    asked: list[float] = []
    with prefer.waiting_place():
        for _ in range(600):
            clock[0] += 0.1
            for number, at in enumerate(back_at):
                if at <= clock[0]:
                    refuse(1)
                    asked.append(clock[0])
                    back_at[number] = clock[0] + int(prefer.retry_after())
    settled = [at for at in asked if at > clock[0] - 30]
    assert len(settled) / 30 < 10 * prefer.COME_BACK_RATE, "not each of the thousand every second"
    assert len(settled) >= len(back_at), "and everybody comes back"


def test_without_a_place_the_answer_comes_at_once_and_says_when_to_come_back(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefer, "_places", threading.BoundedSemaphore(1))
    NodeFactory()
    api = Api()
    execution = ExecutionFactory(session__project=api.project, status=ExecutionStatus.RUNNING)
    with prefer.waiting_place():
        answer = api.get(f"/executions/{execution.pk}/status?wait=60")
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert int(answer.headers["Retry-After"]) >= 1
