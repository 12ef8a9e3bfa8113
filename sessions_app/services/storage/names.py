"""What files are called in a storage."""

from __future__ import annotations

import hashlib
import re

# S3 allows 1,024 bytes of a key, file systems 255 of a segment; the rest is left for the storage's own prefix.
MAX_NAME, MAX_SEGMENT = 900, 255
UPLOADS = "uploads/"
UNSAFE = re.compile(r"[%\\\x00-\x1f\x7f]")


def folder_of(session_id: str) -> str:
    """What all names of a session begin with."""
    return f"sessions/{session_id}/"


def uploads_of(session_id: str) -> str:
    """What all names of what comes past a session's sandbox begin with: apart from its files, so that all of it is found by its age."""
    return f"{UPLOADS}{session_id}/"


def name_of(session_id: str, path: str) -> str:
    """The name of a workspace file. To a storage a backslash is a separator, so that `..\\x` would lead upwards: it is encoded."""
    safe = UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", path)
    fits = len(safe.encode()) <= MAX_NAME and all(len(part.encode()) <= MAX_SEGMENT for part in safe.split("/"))
    return folder_of(session_id) + safe if fits else spare_name(session_id, path)


def spare_name(session_id: str, path: str) -> str:
    """For a path that can't be a name, or whose name is taken. `%long` can't be the beginning of an encoded path."""
    return f"{folder_of(session_id)}%long/{hashlib.sha256(path.encode()).hexdigest()}"
