"""The bytes of stored files, by name: the one package that knows Django's `STORAGES["workspaces"]`.

A folder or a bucket, both with the same verbs. Neither holds more than a part of a file in memory, and in neither is a file
ever seen half: a folder renames, S3 shows an object once all of it is there.
"""

from __future__ import annotations

from functools import lru_cache

from django.core.files.storage import FileSystemStorage, Storage, storages

from sessions_app.services.storage.bucket import Bucket
from sessions_app.services.storage.folder import Folder
from sessions_app.services.storage.names import folder_of, name_of, spare_name, uploads_of
from sessions_app.services.storage.terms import PIECE, NameTaken, NotStored, StorageUnavailable, Stored, Write

__all__ = [
    "PIECE", "Bucket", "Folder", "NameTaken", "NotStored", "StorageUnavailable", "Stored", "Write", "current", "folder_of",
    "name_of", "spare_name", "uploads_of",
]  # fmt: skip


def current() -> Folder | Bucket:
    """The storage in use."""
    return _of(storages["workspaces"])


@lru_cache(maxsize=1)
def _of(storage: Storage) -> Folder | Bucket:
    if isinstance(storage, FileSystemStorage):
        return Folder(storage)
    return Bucket(storage)
