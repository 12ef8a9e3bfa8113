"""Paths in the workspace, walked segment by segment beneath a descriptor and never through a symlink."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import TypeVar

from executor.wire import Fault

T = TypeVar("T")
TEMPORARY = ".sbx-upload-"
MAX_LEVELS = 64
MAX_TIME = 253_402_300_799  # the end of the year 9999, in seconds since 1970
MAX_VISITED = 200_000
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NO_FILE = Fault("not_found", "no regular file at that path")
# What the kernel says of a path that leads to no file of the user's. Anything else is a failure: the file may well be there.
_ABSENT = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV, errno.ESTALE}
)


class Workspace:
    """The user's files, as the helper's uid may see them. `grant(segments)` asks PID 1 to open a user's private path."""

    def __init__(self, root: str, grant: Callable[[list[str]], bool]) -> None:
        self._root = root
        self._grant = grant

    def folder(self, segments: list[str], create: bool = False) -> int:
        """A descriptor of the folder. Raises Fault not_found, or conflict where a file stands in the way of a new one."""
        try:
            fd = os.open(self._root, FOLDER_FLAGS)
        except OSError as error:  # never the user's doing: no file is absent for it
            raise _failed(error) from None
        for depth, name in enumerate(segments):
            try:
                child = self.enter(fd, name, segments[: depth + 1], create)
            finally:
                os.close(fd)
            fd = child
        return fd

    def enter(self, fd: int, name: str, path: list[str], create: bool = False) -> int:
        """A descriptor of the folder `name` in the folder `fd`; `path` leads to it from the top. Raises Fault as `folder` does."""
        try:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o2775, dir_fd=fd)
            child = self.granted(path, lambda: os.open(name, FOLDER_FLAGS, dir_fd=fd))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP) and create and _is_regular(fd, name):
                raise Fault("conflict", "a file is in the way") from None
            raise as_fault(error) from None
        if not _is_entry(fd, name, child):
            os.close(child)
            raise _NO_FILE
        return child

    def granted(self, path: list[str], attempt: Callable[[], T]) -> T:
        """Tries again, once, when the user has shut us out and PID 1 has opened the door."""
        try:
            return attempt()
        except PermissionError:
            if not self._grant(path):
                raise
            return attempt()

    def open_file(self, segments: list[str]) -> int:
        """A descriptor of a regular file. Raises Fault not_found for everything else."""
        folder = self.folder(segments[:-1])
        try:
            fd = self.granted(segments, lambda: os.open(segments[-1], FILE_FLAGS, dir_fd=folder))
        except OSError as error:
            raise as_fault(error) from None
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _NO_FILE
        return fd

    def walk(
        self, start: list[str], deep: bool = True, after: list[str] | None = None
    ) -> Iterator[tuple[str, os.stat_result] | None]:
        """Regular files below a folder, as path and lstat; None where something had to be left out for its depth or number.

        In each folder its files come first, by name, then its folders, by name: so `after`, the path of a file, there or
        not, tells where to go on. Left out: symlinks and special files, uploads under way, names that are not UTF-8,
        folders that can't be read. Raises Fault where the disk or the kernel fails: what was not read is not absent.
        """
        visited = 0
        stack = [start]
        while stack:
            path = stack.pop()
            passed = after if after is not None and len(path) < len(after) and path == after[: len(path)] else None
            folders = []
            for name, info in self._entries(path):
                visited += 1
                if visited > MAX_VISITED:
                    yield None
                    return
                if not path and name.startswith(TEMPORARY):
                    continue
                if stat.S_ISDIR(info.st_mode):
                    if passed is None or not _folder_is_before(name, len(path), passed):
                        folders.append([*path, name])
                elif stat.S_ISREG(info.st_mode) and (passed is None or not _file_is_before(name, len(path), passed)):
                    yield "/".join([*path, name]), info
            if deep and len(path) >= MAX_LEVELS and folders:
                yield None
            elif deep:
                stack.extend(reversed(folders))

    def _entries(self, path: list[str]) -> list[tuple[str, os.stat_result]]:
        try:
            fd = self.folder(path)
        except Fault as fault:
            if fault.code == "internal":
                raise
            return []
        found = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        entry.name.encode("utf-8")
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
                    except UnicodeEncodeError:
                        continue
                    except OSError as error:
                        _unless_absent(error)
        except OSError as error:
            _unless_absent(error)
        finally:
            os.close(fd)
        return sorted(found, key=lambda item: item[0])


def _folder_is_before(name: str, level: int, after: list[str]) -> bool:
    """Whether all of a folder at that level comes before the path `after`, which leads through the folder's own."""
    return level < len(after) - 1 and name < after[level]


def _file_is_before(name: str, level: int, after: list[str]) -> bool:
    """The same of a file, or whether it is that very one."""
    return level < len(after) - 1 or name <= after[level]


def _is_entry(fd: int, name: str, child: int) -> bool:
    """Whether that name is `child` itself, not a link to it: gVisor's of 2022 follows links to folders in spite of O_NOFOLLOW."""
    try:
        listed, opened = os.stat(name, dir_fd=fd, follow_symlinks=False), os.fstat(child)
    except OSError:
        return False
    return (listed.st_dev, listed.st_ino) == (opened.st_dev, opened.st_ino)


def _is_regular(fd: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except OSError:
        return False


def as_fault(error: OSError) -> Fault:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Fault("disk_full", "the workspace is full")
    if error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
        return Fault("conflict", "a folder is in the way")
    if error.errno == errno.ENAMETOOLONG:
        return Fault("bad_request", "a name in the path is too long")
    if error.errno in _ABSENT:
        return _NO_FILE
    return _failed(error)


def _failed(error: OSError) -> Fault:
    return Fault("internal", f"the file system failed: {os.strerror(error.errno or errno.EIO)}")


def _unless_absent(error: OSError) -> None:
    if error.errno not in _ABSENT:
        raise as_fault(error) from None


def check_free(path: list[str]) -> None:
    """Raises Fault for a name that belongs to what waits: a file there would be neither listed nor kept."""
    if path[0].startswith(TEMPORARY):
        raise Fault("bad_request", f"names at the top that begin with {TEMPORARY} are reserved; choose another")


def mtime(info: os.stat_result) -> float:
    """Seconds since 1970, brought into the years 1970 to 9999: programs may set any time, not every client can read it."""
    return max(0.0, min(info.st_mtime, float(MAX_TIME)))


def etag(info: os.stat_result) -> str:
    """Changes with every change: programs may set a file's mtime, but not its ctime."""
    return f'"{info.st_ino:x}-{info.st_size:x}-{info.st_mtime_ns:x}-{info.st_ctime_ns:x}"'
