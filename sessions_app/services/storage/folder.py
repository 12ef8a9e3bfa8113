"""A local folder that keeps files."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from django.core.files.storage import FileSystemStorage

from sessions_app.services.storage.names import UPLOADS, folder_of, uploads_of
from sessions_app.services.storage.terms import Body, NameTaken, NotStored, StorageUnavailable, Stored, Write

# What a file system says to a name that it can't keep.
TAKEN = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}


class _Begun(NamedTuple):
    """A file whose bytes are written and not yet safe."""

    descriptor: int
    temporary: Path
    target: Path


class Folder:
    """A local folder."""

    def __init__(self, storage: FileSystemStorage) -> None:
        self._root = Path(storage.location)

    def url(self, name: str) -> str:
        """Never a path of the host."""
        return f"workspace://{name}"

    def write(self, name: str, pieces: Iterable[bytes]) -> int:
        """Keep a file; its size. Raises NameTaken, StorageUnavailable, and what `pieces` raises: then nothing is kept."""
        with self.batch() as write:
            return write(name, pieces)

    @contextmanager
    def batch(self) -> Iterator[Write]:
        """Gives a `write` for several files, by several threads: they are safe, and seen, at the end of the block, or none is."""
        begun: list[_Begun] = []
        try:
            yield partial(self._begin, begun)
            with _files(TAKEN):
                # The disk has been busy with all of them since they were written: the first waits, the others hardly.
                for one in begun:
                    os.fsync(one.descriptor)
                for one in begun:
                    one.target.parent.mkdir(parents=True, exist_ok=True)
                    os.rename(one.temporary, one.target)
                for folder in {folder for one in begun for folder in self._folders(one.target)}:
                    _sync_folder(folder)
        finally:
            for one in begun:
                os.close(one.descriptor)
                one.temporary.unlink(missing_ok=True)

    def _begin(self, begun: list[_Begun], name: str, pieces: Iterable[bytes]) -> int:
        target = self._root / name
        # Beside the files, not among them: what a crash leaves is found by its age.
        temporary = self._root / "tmp" / secrets.token_hex(16)
        with _files(TAKEN):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() or not next(folder for folder in target.parents if folder.exists()).is_dir():
                raise NameTaken(name)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = _fill(descriptor, pieces)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        begun.append(_Begun(descriptor, temporary, target))
        return size

    def _folders(self, target: Path) -> list[Path]:
        depth = len(target.relative_to(self._root).parts)
        return list(target.parents)[:depth]

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Stored:
        """A file or a part of it. Raises NotStored, StorageUnavailable."""
        try:
            file = (self._root / name).open("rb", buffering=0)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotStored(name) from None
        except OSError as error:
            raise StorageUnavailable(str(error)) from error
        info = os.fstat(file.fileno())
        file.seek(offset)
        part = max(0, min(info.st_size - offset, info.st_size if length is None else length))
        return Stored(info.st_size, part, f'"{info.st_mtime_ns:x}-{info.st_size:x}"', Body(file, part))

    def delete(self, name: str) -> None:
        """Forget a file, if there is one."""
        path = self._root / name
        with _files():
            path.unlink(missing_ok=True)
        _prune(path.parent, self._root)

    def erase(self, session_id: str) -> None:
        """Forget all files of a session, and what has come past it."""
        for top in (folder_of(session_id), uploads_of(session_id)):
            for folder, _, files in os.walk(self._root / top, topdown=False):
                with _files():
                    for file in files:
                        os.unlink(os.path.join(folder, file))
                    os.rmdir(folder)

    def answers(self) -> None:
        """Raises StorageUnavailable."""
        with _files():
            self._root.mkdir(parents=True, exist_ok=True)
            os.stat(self._root)

    def sweep(self, before: float) -> None:
        """Remove what was left half by processes that died, older than `before` (seconds since 1970)."""
        for path in (self._root / "tmp").glob("*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()

    def sweep_uploads(self, before: float) -> None:
        """Remove what came past the sandboxes before `before` (seconds since 1970) and is there still. Raises StorageUnavailable."""
        for folder in (self._root / UPLOADS).glob("*"):
            with _files():
                for path in folder.iterdir():
                    if path.stat().st_mtime < before:
                        path.unlink(missing_ok=True)
            with suppress(OSError):  # something is in it, or comes just now
                folder.rmdir()


@contextmanager
def _files(taken: Collection[int | None] = ()) -> Iterator[None]:
    """Their errors in our words. `taken` are those that mean a name, and not the disk: only writing can tell."""
    try:
        yield
    except OSError as error:
        if error.errno in taken:
            raise NameTaken(str(error)) from error
        raise StorageUnavailable(str(error)) from error


def _fill(descriptor: int, pieces: Iterable[bytes]) -> int:
    size = 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            with _files():
                view = view[os.write(descriptor, view) :]
        size += len(piece)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write them to the disk, and does not wait
    return size


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(folder: Path, root: Path) -> None:
    """Remove folders that are empty now: a file may want the name."""
    while folder != root and folder.parent != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
