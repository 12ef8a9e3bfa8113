"""The child that waits, as PID 1 has it where runs see each other (`--apart`): no run may see it, and none is given one that is to end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from executor.cli import parse
from executor.helper import Helper
from executor.linux import seqpacket_pair
from executor.loop import Loop
from executor.waiting import Waiting


@pytest.fixture
def zygote() -> Iterator[Helper]:
    """One that can be told things, and hears none of them."""
    helper = Helper("zygote", parse(["--apart"]))
    helper._sock, other = seqpacket_pair()
    with helper._sock, other:
        yield helper


@pytest.fixture
def waiting(zygote: Helper) -> Waiting:
    return Waiting(Loop(), parse(["--apart"]), zygote)


@pytest.fixture
def child() -> Iterator[tuple[int, socket.socket]]:
    """What PID 1 gets, and the child's own end."""
    ours, theirs = seqpacket_pair()
    theirs.setblocking(False)
    with theirs:
        yield ours.detach(), theirs


def ends(theirs: socket.socket) -> bool:
    """Whether the child is told to."""
    try:
        return theirs.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.mark.parametrize("language", ["python", "shell", "javascript"])
def test_it_is_let_go_when_the_zygote_is_asked_for_another(waiting, zygote, child, language):
    waiting.came(os.getpid(), child[0], 0)
    assert not ends(child[1])
    assert zygote.send({"run": 1, "uid": 1, "language": language})
    assert ends(child[1])


def test_what_is_no_users_code_leaves_it_alone(waiting, zygote, child):
    waiting.came(os.getpid(), child[0], 0)
    zygote.send({"run": 1, "uid": 1, "language": "wipe"})
    zygote.send({"idle": True})
    assert not ends(child[1])
    waiting.forget()


def test_one_that_is_told_of_too_late_is_not_taken(waiting, zygote, child):
    """The zygote had forked it before it heard of the run that it must make way for."""
    zygote.send({"run": 1, "uid": 1, "language": "python"})
    waiting.came(os.getpid(), child[0], 0)
    assert ends(child[1])


def test_one_that_was_forked_behind_that_run_is_taken(waiting, zygote, child):
    zygote.send({"run": 1, "uid": 1, "language": "python"})
    waiting.came(os.getpid(), child[0], 1)
    assert not ends(child[1])
    waiting.forget()
