"""What the workspace says where the kernel fails: never that a file is absent which is there."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from executor.wire import Fault
from executor.workspace import Workspace


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """This process may open so many more files at once: none, or one."""
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "folder" / "deep" / "file").write_text("x")
    return Workspace(str(tmp_path), lambda path: False)


VERBS: list[Callable[[Workspace], object]] = [
    lambda workspace: os.close(workspace.open_file(["folder", "file"])),
    lambda workspace: list(workspace.walk([])),
    lambda workspace: list(workspace.walk(["folder"])),
]


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("verb", VERBS, ids=["open", "walk", "walk below"])
def test_a_file_is_not_absent_because_no_descriptor_is_left(workspace: Workspace, left: int, verb: Callable) -> None:
    with descriptors_left(left), pytest.raises(Fault) as caught:
        verb(workspace)
    assert caught.value.code == "internal"
    verb(workspace)


@pytest.mark.parametrize(
    "path", [["none"], ["folder"], ["folder", "file", "below"], ["link"], ["pipe"], ["shut", "file"]]
)
def test_what_leads_to_no_file_is_absent(workspace: Workspace, tmp_path: Path, path: list[str]) -> None:
    (tmp_path / "link").symlink_to("folder/file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Fault) as caught:
        workspace.open_file(path)
    assert caught.value.code == "not_found"
    assert sorted(path for path, _ in filter(None, workspace.walk([]))) == ["folder/deep/file", "folder/file"]
