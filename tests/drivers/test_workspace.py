"""Whether images can be mounted: asked again until it has worked, and nothing of the question stays behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import pytest

from runtime.drivers import mounts, workspace
from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.errors import DiskFull, NoCapacity
from runtime.drivers.state import StateFolder

pytestmark = pytest.mark.bubblewrap


@pytest.fixture(autouse=True)
def young(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not mounted any yet."""
    monkeypatch.setattr(workspace, "_mounted", False)


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path, "bubblewrap/main")


def fault(words: str) -> subprocess.CalledProcessError:
    return subprocess.CalledProcessError(32, "mount", stderr=f"mount: /x: {words}".encode())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (subprocess.TimeoutExpired("mount", 20), NoCapacity),
        (fault("mount(2) system call failed: Cannot allocate memory."), NoCapacity),
        (fault("No space left on device"), DiskFull),
        (OSError(11, "no more processes"), NoCapacity),
        (fault("permission denied."), None),
        (fault("unknown filesystem type 'ext4'."), None),
        (FileNotFoundError(2, "mkfs.ext4"), None),
    ],
    ids=str,
)
def test_what_fails_once_is_tried_again(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch, error: Exception, told: type[Exception] | None
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(workspace.subprocess, "run", fail)
        if told:
            with pytest.raises(told) as caught:
                workspace.can_mount(state)
            assert caught.value.transient  # type: ignore[attr-defined]
        else:
            assert not workspace.can_mount(state)
    assert workspace.can_mount(state)
    with monkeypatch.context() as patch:
        patch.setattr(workspace.subprocess, "run", fail)
        assert workspace.can_mount(state)
    assert not list((state.root / "sandboxes").iterdir()) and not list((state.root / "locks").iterdir())


def test_what_a_crash_leaves_of_it_is_swept_like_a_sandbox(state: StateFolder) -> None:
    child = multiprocessing.get_context("fork").Process(target=_dies_in_the_middle, args=(state,))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert [kind for _, kind in mounts.below(state.root)] == ["ext4"]

    driver = BubblewrapDriver("main", state.root)
    (left,) = driver.list()
    driver.remove(left.name)
    assert mounts.below(state.root) == [] and driver.list() == []
    assert str(state.root) not in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout


def _dies_in_the_middle(state: StateFolder) -> None:
    make = workspace.make

    def make_and_die(*args: object) -> None:
        make(*args)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGKILL)

    workspace.make = make_and_die  # type: ignore[assignment]
    workspace.can_mount(state)
