"""The stored files of a session: what the rows say, and the bytes that the storage has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

from django.conf import settings

from sessions_app.models import Session, StoredFile
from sessions_app.services import storage
from sessions_app.services.storage import Stored, Write

# Rows of one statement.
BATCH = 100


def write(session_id: str, path: str, pieces: Callable[[], Iterable[bytes]], keep: Write) -> tuple[str, int]:
    """Keep the bytes of one file by `keep`, of a batch; its name in the storage and its size. The row is the caller's affair."""
    name = storage.name_of(session_id, path)
    try:
        return name, keep(name, pieces())
    except storage.NameTaken:
        # A folder was there where the file is now, or the storage has limits of its own.
        spare = storage.spare_name(session_id, path)
        return spare, keep(spare, pieces())


def remember(rows: list[StoredFile]) -> None:
    """These files are in the storage."""
    StoredFile.objects.bulk_create(
        rows,
        BATCH,
        update_conflicts=True,
        unique_fields=["session", "path"],
        update_fields=["name", "size", "mtime", "etag"],
    )


def forget(row: StoredFile) -> None:
    """This file is to go: first from what is shown."""
    row.delete()
    storage.current().delete(row.name)


def erase(session_id: str) -> None:
    """All of them are to go."""
    storage.current().erase(session_id)
    StoredFile.objects.filter(session_id=session_id).delete()
    Session.objects.filter(pk=session_id).update(files_saved_at=None)


def over(session: Session) -> bool:
    """Whether the time is over for which the files of an ended session are kept."""
    age = dt.timedelta(seconds=settings.FILES_RETENTION)
    return session.ended_at is not None and dt.datetime.now(dt.UTC) - session.ended_at > age


def rows(session: Session, prefix: str = "", recursive: bool = True) -> list[StoredFile]:
    """Sorted; none once their time is over."""
    if over(session) or session.purge:
        return []
    # The database compares letters of either case as equal, or by its own alphabet: told apart and sorted here.
    found = [row for row in session.stored_files.all() if row.path.startswith(prefix)]
    if not recursive:
        found = [row for row in found if "/" not in row.path[prefix.rfind("/") + 1 :]]
    return sorted(found, key=lambda row: row.path)


def find(session: Session, path: str) -> StoredFile | None:
    """The row of one file."""
    return None if over(session) or session.purge else session.stored_files.filter(path=path).first()


def read(row: StoredFile, offset: int = 0, length: int | None = None) -> Stored:
    """Its bytes. Raises NotStored, StorageUnavailable."""
    return storage.current().read(row.name, offset, length)
