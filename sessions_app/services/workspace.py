"""Files of a session: in its sandbox while it lives, in `STORAGES["workspaces"]` after its end."""

from __future__ import annotations

import datetime as dt
import mimetypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from django.db import transaction

from runtime.drivers.errors import ExecutorError, ExecutorRefused, ExecutorUnavailable
from runtime.drivers.executor_client import ExecutorClient
from runtime.services import containers
from sandbox_platform.errors import ApiError, invalid
from sessions_app.models import Owed, Session
from sessions_app.services import debts, saved, storage

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
    return storage.current().url(storage.folder_of(session.pk))


# --- Live: through the executor ----------------------------------------------------------------------------------------


def client_of(session: Session) -> ExecutorClient:
    """Of its sandbox's executor. 503 where there is none yet."""
    container = session.container
    if container is None or not container.socket:
        raise ApiError("RuntimeUnavailable", "The session's sandbox is not up yet", headers={"Retry-After": "2"})
    return ExecutorClient(Path(container.socket), members=containers.members(container))


def _no_file(path: str) -> ApiError:
    return ApiError("FileNotFound", f"There is no file '{path[:200]}' in the workspace")


def translate(error: ExecutorError, path: str) -> ApiError:
    """What an executor said, in the API's words."""
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
        size = client_of(session).put_file(path, chunks)
    except ExecutorError as error:
        raise translate(error, path) from error
    changed(session)
    return size


def delete(session: Session, path: str) -> None:
    """Delete one file."""
    try:
        client_of(session).delete_file(path)
    except ExecutorError as error:
        raise translate(error, path) from error
    changed(session)


def changed(session: Session) -> None:
    """Its files are to be copied."""
    with transaction.atomic():
        debts.owe(session.pk, Owed.COPY)


def listing(session: Session, prefix: str, recursive: bool) -> tuple[list[Entry], bool]:
    """Files below `prefix`, and whether there are more than could be listed."""
    if in_storage(session):
        return _stored_listing(session, prefix, recursive), False
    try:
        page = client_of(session).list_files(prefix, recursive)
    except ExecutorError as error:
        if session.ended:
            return _stored_listing(session, prefix, recursive), False
        raise translate(error, prefix) from error
    return [Entry(e.path, e.size, e.mtime) for e in page.files], page.truncated


def every_file(session: Session) -> Iterator[Entry]:
    """All files, however many."""
    if in_storage(session):
        yield from _stored_listing(session, "", recursive=True)
        return
    try:
        for page in client_of(session).every_file():
            yield from (Entry(e.path, e.size, e.mtime) for e in page.files)
    except ExecutorError as error:
        raise translate(error, "") from error


def in_storage(session: Session) -> bool:
    """Whether its files are served from there: it has ended, and its sandbox is gone or has nothing to add."""
    return session.ended and bool(
        session.purge
        or session.files_saved_at
        or session.released_at
        or session.container is None
        or not session.container.socket
    )


def read(session: Session, path: str, offset: int = 0, length: int | None = None) -> Content:
    """One file or a part of it. 404 where there is none."""
    if in_storage(session):
        return read_stored(session, path, offset, length)
    try:
        info, body = client_of(session).open_file(path, offset, length)
    except ExecutorError as error:
        if session.ended and isinstance(error, ExecutorUnavailable):
            return read_stored(session, path, offset, length)
        raise translate(error, path) from error
    return Content(info.size, info.length, info.mtime, info.etag, body)


# --- After the end: from storage ----------------------------------------------------------------------------------------


def _stored_listing(session: Session, prefix: str, recursive: bool) -> list[Entry]:
    return [Entry(row.path, row.size, row.mtime) for row in saved.rows(session, prefix, recursive)]


def read_stored(session: Session, path: str, offset: int, length: int | None) -> Content:
    """One file or a part of it, as it is in the storage. 404 where there is none."""
    row = saved.find(session, path)
    if row is None:
        raise _no_file(path)
    try:
        stored = saved.read(row, offset, length)
    except storage.NotStored:
        raise _no_file(path) from None
    except storage.StorageUnavailable as error:
        raise unavailable(error) from error
    return Content(stored.size, stored.length, row.mtime, stored.etag, stored.body)


def unavailable(error: Exception) -> ApiError:
    """For a client whose file is in a storage that does not answer."""
    log.warning("storage_unavailable", error=str(error)[:500])
    return ApiError("ServiceUnavailable", "The storage of files does not answer", headers={"Retry-After": "5"})
