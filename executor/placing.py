"""Moves what is whole to where it belongs: files over files, folders into folders, and never through a symlink."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from executor.wire import Fault
from executor.workspace import FOLDER_FLAGS, Workspace, check_free


class Placed(NamedTuple):
    """A file at its new path."""

    path: str
    info: os.stat_result


def check_target(folder: int, name: str) -> None:
    """Raises Fault where something stands that a file can't replace."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise Fault("conflict", "a folder is in the way")
    if not stat.S_ISREG(mode):
        raise Fault("not_found", "what is at that path is no regular file")


class Placing:
    """One folder of ours, `stage`, whose content goes to the folder `target` of the workspace, by renames alone.

    Whether each has its place is asked of all before the first is moved.
    """

    def __init__(self, workspace: Workspace, stage: int, target: list[str]) -> None:
        self._workspace, self._stage, self._target = workspace, stage, target
        self._moves: list[list[str]] = []
        self._files: dict[str, os.stat_result] = {}

    def run(self) -> list[Placed]:
        """The files, sorted. Raises Fault, OSError."""
        if self._target:
            check_free(self._target)
        top = self._workspace.folder(self._target, create=True)
        try:
            self._plan(self._stage, top, [])
            self._move_all()
        finally:
            os.close(top)
        return [Placed("/".join([*self._target, path]), self._files[path]) for path in sorted(self._files)]

    def _move_all(self) -> None:
        for done, path in enumerate(self._moves):
            try:
                self._move(path)
            except (Fault, OSError):
                if not done:
                    raise
                words = "a program changed the workspace meanwhile: only a part of the archive is in its place"
                raise Fault("conflict", words) from None

    def _plan(self, source: int, there: int | None, path: list[str]) -> None:
        """`there` is the folder of the workspace that has the same path, None where there is none."""
        for name in sorted(os.listdir(source)):
            info = os.stat(name, dir_fd=source, follow_symlinks=False)
            here = [*path, name]
            check_free([*self._target, *here])
            if not stat.S_ISDIR(info.st_mode):
                self._files["/".join(here)] = info
                if there is not None:
                    _check(there, name, here)
                    self._moves.append(here)
                continue
            inner = self._inner(there, name, here) if there is not None else None
            if there is not None and inner is None:
                self._moves.append(here)  # the folder as a whole
            fd = os.open(name, FOLDER_FLAGS, dir_fd=source)
            try:
                self._plan(fd, inner, here)
            finally:
                os.close(fd)
                if inner is not None:
                    os.close(inner)

    def _inner(self, there: int, name: str, path: list[str]) -> int | None:
        try:
            mode = os.stat(name, dir_fd=there, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(mode):
            raise Fault("conflict", f"a file is in the way of the folder {'/'.join(path)!r}; nothing was unpacked")
        return self._workspace.enter(there, name, [*self._target, *path])

    def _move(self, path: list[str]) -> None:
        source = _open(self._stage, path[:-1])
        try:
            whole = [*self._target, *path]
            folder = self._workspace.folder(whole[:-1])
            try:
                self._workspace.granted(
                    whole[:-1], lambda: os.rename(path[-1], path[-1], src_dir_fd=source, dst_dir_fd=folder)
                )
                info = os.stat(path[-1], dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(info.st_mode):
                    self._files["/".join(path)] = info  # a rename changes the ctime
            finally:
                os.close(folder)
        finally:
            os.close(source)


def _check(folder: int, name: str, path: list[str]) -> None:
    try:
        check_target(folder, name)
    except Fault as fault:
        raise Fault("conflict", f"{fault.message}: {'/'.join(path)!r}; nothing was unpacked") from None


def _open(folder: int, path: list[str]) -> int:
    fd = os.dup(folder)
    for name in path:
        try:
            child = os.open(name, FOLDER_FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = child
    return fd
