"""The wiper that takes too long: it ends before any run begins, and it holds nothing of the zygote's."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executor import wiper

UID = 20001


class Timer:
    def cancel(self) -> None:
        pass


class Loop:
    """What is to happen later happens when the test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.due.append(callback)
        return Timer()


class Zygote:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> bool:
        self.asked.append(message)
        return True


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One that does not end by itself."""
    with subprocess.Popen(["sleep", "600"]) as running:
        yield running
        running.kill()


@pytest.fixture
def parts(monkeypatch) -> tuple[wiper.Wiper, Loop, Zygote]:
    found: set[str] = set()
    monkeypatch.setattr(wiper, "listing", lambda: set(found))
    loop, zygote = Loop(), Zygote()
    made = wiper.Wiper(loop, zygote, itertools.count(1))  # type: ignore[arg-type]
    found.add("/tmp/left")
    return made, loop, zygote


def test_one_that_is_given_up_is_killed_and_runs_wait_for_its_end(parts, process):
    wipe, loop, zygote = parts
    began: list[bool] = []
    wipe.start([UID])
    wipe.then(lambda: began.append(True))
    wipe.says({"run": zygote.asked[0]["run"], "pid": process.pid})
    loop.due[-1]()
    assert process.wait(20) == -signal.SIGKILL
    assert not began
    wipe.ended(process.pid)
    assert began
    assert not wipe.busy
    assert len(zygote.asked) == 1, "no other is asked for"


def test_one_that_is_named_only_after_it_was_given_up_is_killed_then(parts, process):
    wipe, loop, zygote = parts
    began: list[bool] = []
    wipe.start([UID])
    wipe.then(lambda: began.append(True))
    loop.due[-1]()
    assert began, "the zygote starts it before any run, so runs need not wait"
    wipe.says({"run": zygote.asked[0]["run"], "pid": process.pid})
    assert process.wait(20) == -signal.SIGKILL


def test_it_holds_no_descriptor_when_it_becomes_the_user():
    code = """
import os
from executor import child
held = os.pipe()
def become(uid, gid):
    for fd in held:
        try:
            os.fstat(fd)
            print("open", flush=True)
        except OSError:
            print("closed", flush=True)
child.become, child.scratch.wipe = become, lambda: None
class Options:
    user_uid = 20000
child._wipe(20001, Options)
"""
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert said.stdout.split() == ["closed", "closed"], said.stderr
