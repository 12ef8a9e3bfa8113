"""Files of a session: in its sandbox while it lives, in `STORAGES["workspaces"]` after its end."""

from __future__ import annotations

import datetime as dt
import errno
import io
import mimetypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage, storages
from django.db.models.functions import Now

from runtime.drivers.errors import ExecutorError, ExecutorRefused, ExecutorUnavailable
from runtime.drivers.executor_client import ExecutorClient
from runtime.services import containers
from sandbox_platform.errors import ApiError, invalid
from sessions_app.models import Session

log = structlog.get_logger(__name__)
MAX_FILE = 100 * 1024 * 1024
MAX_PATH = 1024
PIECE = 256 * 1024


@dataclass(frozen=True)
class Entry:
    """A file in a list: size in bytes, mtime in seconds since 1970."""

    path: str
    size: int
    mtime: float

    def as_json(self) -> dict[str, object]:
        """In the API's words."""
        modified = dt.datetime.fromtimestamp(self.mtime, dt.UTC)
        return {"path": self.path, "size": self.size, "modified_at": modified, "mime_type": mime_type(self.path)}


@dataclass(frozen=True)
class Content:
    """A file that is being read: `length` bytes follow of its `size`."""

    size: int
    length: int
    mtime: float
    etag: str
    body: Iterator[bytes]


def mime_type(path: str) -> str:
    """Guessed from the name. `./` since the standard library would take `data:` for a URL, and what follows for the type."""
    return mimetypes.guess_type(f"./{path}")[0] or "application/octet-stream"


def check_path(path: str, name: str = "path") -> str:
    """A path relative to the workspace. 400 if absolute, empty, too long, or with `.`, `..` or empty segments or NUL."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise invalid(f"{name}: is not valid UTF-8") from None
    if not path or len(encoded) > MAX_PATH:
        raise invalid(f"{name}: must be 1 to {MAX_PATH} bytes")
    if "\0" in path:
        raise invalid(f"{name}: must not contain NUL")
    if path.startswith("/"):
        raise invalid(f"{name}: must be relative to the workspace")
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise invalid(f"{name}: must not contain empty, '.' or '..' segments")
    return path


def path_of(session: Session) -> str:
    """The URL of its workspace."""
    return f"workspace://sessions/{session.pk}/"


# --- Live: through the executor ----------------------------------------------------------------------------------------


def _client(session: Session) -> ExecutorClient:
    container = session.container
    if container is None or not container.socket:
        raise ApiError("RuntimeUnavailable", "The session's sandbox is not up yet", headers={"Retry-After": "2"})
    return ExecutorClient(Path(container.socket), members=containers.members(container))


def _no_file(path: str) -> ApiError:
    return ApiError("FileNotFound", f"There is no file '{path[:200]}' in the workspace")


def _translate(error: ExecutorError, path: str) -> ApiError:
    if isinstance(error, ExecutorRefused):
        match error.code:
            case "not_found":
                return _no_file(path)
            case "disk_full":
                return ApiError("DiskFull", "The workspace has no room for the file; nothing of it was kept")
            case "conflict":
                return ApiError("Conflict", f"A folder is in the way of '{path[:200]}'")
            case "bad_request":
                return invalid(f"path: {error}")
            case "too_large":
                return ApiError("PayloadTooLarge", f"The file is larger than {MAX_FILE} bytes")
    log.warning("executor_failed", error=str(error))
    return ApiError("RuntimeUnavailable", "The session's sandbox did not answer", headers={"Retry-After": "2"})


def upload(session: Session, path: str, chunks: Iterable[bytes]) -> int:
    """Write one file; its size in bytes. The old or the new content is there, never half."""
    try:
        return _client(session).put_file(path, chunks)
    except ExecutorError as error:
        raise _translate(error, path) from error


def delete(session: Session, path: str) -> None:
    """Delete one file."""
    try:
        _client(session).delete_file(path)
    except ExecutorError as error:
        raise _translate(error, path) from error


def listing(session: Session, prefix: str, recursive: bool) -> tuple[list[Entry], bool]:
    """Files below `prefix`, and whether there are more than could be listed."""
    if session.ended and session.purge:
        return [], False
    if session.ended and session.files_saved_at:
        return _stored_listing(session, prefix, recursive)
    if session.ended and (session.container is None or session.released_at):
        return [], False
    try:
        entries, truncated = _client(session).list_files(prefix, recursive)
    except ExecutorError as error:
        if session.ended:
            return [], False
        raise _translate(error, prefix) from error
    return [Entry(e.path, e.size, e.mtime) for e in entries], truncated


def read(session: Session, path: str, offset: int = 0, length: int | None = None) -> Content:
    """One file or a part of it. 404 where there is none."""
    if session.ended and session.purge:
        raise _no_file(path)
    if session.ended and (session.files_saved_at or session.released_at):
        return _stored_content(session, path, offset, length)
    try:
        info, body = _client(session).open_file(path, offset, length)
    except ExecutorError as error:
        if session.ended and isinstance(error, ExecutorUnavailable):
            raise _no_file(path) from error
        raise _translate(error, path) from error
    return Content(info.size, info.length, info.mtime, info.etag, body)


# --- After the end: from storage ----------------------------------------------------------------------------------------


def _storage() -> Storage:
    return storages["workspaces"]


def _prefix(session: Session) -> str:
    return f"sessions/{session.pk}"


def _stored_name(path: str) -> str:
    """To a storage a backslash is a separator, so that `..\\x` would lead upwards; to a workspace it is a letter."""
    return path.replace("%", "%25").replace("\\", "%5C")


def _path_of_stored(name: str) -> str:
    return name.replace("%5C", "\\").replace("%25", "%")


def _expired(session: Session) -> bool:
    age = dt.timedelta(seconds=settings.FILES_RETENTION)
    return session.ended_at is not None and dt.datetime.now(dt.UTC) - session.ended_at > age


class _Pieces(io.RawIOBase):
    """A readable file over an iterator of bytes, so that storages stream it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = next(self._pieces, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def save(session: Session, socket: str) -> None:
    """Copy the workspace to storage while the sandbox is still there. A sandbox that is gone has nothing to give."""
    container = session.container
    client = ExecutorClient(Path(socket), members=containers.members(container) if container else ())
    try:
        entries, truncated = client.list_files()
    except ExecutorError as error:
        log.warning("workspace_not_saved", session=session.pk, error=str(error))
        return
    for entry in entries:
        try:
            check_path(entry.path)  # what no download can name is not worth keeping
            _, body = client.open_file(entry.path)
        except (ApiError, ExecutorRefused):
            continue  # it went away meanwhile
        with body:
            _save(f"{_prefix(session)}/{_stored_name(entry.path)}", body)
    if truncated:
        log.warning("workspace_truncated", session=session.pk, files=len(entries))
    Session.objects.filter(pk=session.pk).update(files_saved_at=Now())


def _save(name: str, body: Iterator[bytes]) -> None:
    try:
        if _storage().exists(name):
            _storage().delete(name)  # of an attempt that was interrupted
        _storage().save(name, File(io.BufferedReader(_Pieces(body), PIECE), name=name))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        log.warning("file_not_saved", name=name[:200], error=str(error))  # no other try would fare better


def erase(session: Session) -> None:
    """Remove its stored files."""
    _erase_below(_prefix(session))
    Session.objects.filter(pk=session.pk).update(files_saved_at=None)


def _erase_below(folder: str) -> None:
    storage = _storage()
    try:
        folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return
    for name in files:
        storage.delete(f"{folder}/{name}")
    for name in folders:
        _erase_below(f"{folder}/{name}")
    storage.delete(folder)


def _stored_listing(session: Session, prefix: str, recursive: bool) -> tuple[list[Entry], bool]:
    if _expired(session):
        return [], False
    root, start = _prefix(session), _stored_name(prefix)
    found: list[Entry] = []

    def walk(folder: str) -> None:
        try:
            folders, files = _storage().listdir(f"{root}/{folder}" if folder else root)
        except FileNotFoundError:
            return
        for name in sorted(files):
            path = f"{folder}/{name}" if folder else name
            if path.startswith(start):
                stored = f"{root}/{path}"
                modified = _storage().get_modified_time(stored).timestamp()
                found.append(Entry(_path_of_stored(path), _storage().size(stored), modified))
        for name in sorted(folders) if recursive else ():
            walk(f"{folder}/{name}" if folder else name)

    walk(start.rsplit("/", 1)[0] if "/" in start else "")
    return found, False


def _stored_content(session: Session, path: str, offset: int, length: int | None) -> Content:
    stored = f"{_prefix(session)}/{_stored_name(path)}"
    try:
        if _expired(session):
            raise FileNotFoundError
        file = _storage().open(stored)
        size, mtime = _storage().size(stored), _storage().get_modified_time(stored).timestamp()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise _no_file(path) from None
    part = max(0, min(size - offset, size if length is None else length))

    def pieces() -> Iterator[bytes]:
        left = part
        with file:
            file.seek(offset)
            while left and (data := file.read(min(PIECE, left))):
                left -= len(data)
                yield data

    return Content(size, part, mtime, f'"{int(mtime * 1e6):x}-{size:x}"', pieces())
