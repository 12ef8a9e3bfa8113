"""Where what is uploaded waits until it is whole: under temporary names at the top of the workspace, on the same file system."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from executor.log import log
from executor.workspace import FOLDER_FLAGS, TEMPORARY, Workspace

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """Makes temporary files and folders; removes them, whatever happens, unless they have been moved away."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @contextmanager
    def file(self) -> Iterator[tuple[int, str, int]]:
        """A new file: its descriptor, its name, and the folder's descriptor to rename it from."""
        top = self._workspace.folder([])
        name = TEMPORARY + os.urandom(8).hex()
        try:
            fd = os.open(name, NEW_FILE, 0o664, dir_fd=top)
            try:
                yield fd, name, top
            finally:
                os.close(fd)
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=top)
        finally:
            os.close(top)

    @contextmanager
    def folder(self) -> Iterator[tuple[int, str]]:
        """A new folder that no user can enter: its descriptor and its name."""
        top = self._workspace.folder([])
        name = TEMPORARY + os.urandom(8).hex()
        try:
            os.mkdir(name, 0o700, dir_fd=top)
            try:
                fd = os.open(name, FOLDER_FLAGS, dir_fd=top)
                try:
                    yield fd, name
                finally:
                    os.close(fd)
            finally:
                remove_tree(name, top)
        finally:
            os.close(top)

    def sweep(self) -> None:
        """Removes what a helper that was killed has left."""
        try:
            top = self._workspace.folder([])
        except Exception:
            return  # not mounted yet
        try:
            left = [name for name in os.listdir(top) if name.startswith(TEMPORARY) and self._ours(top, name)]
            for name in left:
                remove_tree(name, top)
            if left:
                log("info", "staging_swept", count=len(left))
        except OSError as error:
            log("warning", "staging_not_swept", error=repr(error))
        finally:
            os.close(top)

    @staticmethod
    def _ours(top: int, name: str) -> bool:
        try:
            return os.stat(name, dir_fd=top, follow_symlinks=False).st_uid == os.getuid()
        except OSError:
            return False


def remove_tree(name: str, folder: int) -> None:
    """Removes a file or a whole folder of ours, and follows no symlink."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            for _, folders, files, fd in os.fwalk(name, topdown=False, dir_fd=folder):
                for file in files:
                    os.unlink(file, dir_fd=fd)
                for inner in folders:
                    os.rmdir(inner, dir_fd=fd)
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
