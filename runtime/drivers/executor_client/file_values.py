"""What an executor says of the files of its workspace, read field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from runtime.drivers.executor_client import fields
from runtime.drivers.executor_client.protocol import MAX_JSON, Head

MAX_UNPACKED = 1000
"""Of the files of an archive that are named."""


@dataclass(frozen=True)
class FileEntry:
    """A regular file of the workspace: size in bytes, mtime in seconds. `etag` as for a download; empty from older executors."""

    path: str
    size: int
    mtime: float
    etag: str = ""


@dataclass(frozen=True)
class FilePage:
    """One page of a list. `truncated`: there are more; `next` says from where on, None where no page would show them."""

    files: list[FileEntry]
    truncated: bool
    next: str | None


@dataclass(frozen=True)
class FileInfo:
    """A file that is being read. `size` is the whole file's, `length` that of the part that follows, both in bytes."""

    size: int
    length: int
    mtime: float
    etag: str


class UnpackedFile(NamedTuple):
    """One file of an archive: size in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Unpacked:
    """What came of an archive: how many files of how many bytes; the first of them by path and size."""

    path: str
    count: int
    size: int
    files: tuple[UnpackedFile, ...]
    truncated: bool


def parse_unpacked(value: dict[str, Any]) -> Unpacked:
    """The answer to an archive."""
    files = []
    for item in fields.items(value, "files", MAX_UNPACKED):
        entry = fields.mapping(item)
        files.append(UnpackedFile(fields.path(entry, "path"), fields.whole(entry, "size")))
    path = fields.text(value, "path", fields.MAX_PATH)
    count, size = fields.whole(value, "count"), fields.whole(value, "size")
    return Unpacked(path, count, size, tuple(files), fields.flag(value, "truncated"))


def parse_files(value: dict[str, Any]) -> FilePage:
    """One page of a list."""
    files = []
    for item in fields.items(value, "files", MAX_JSON):
        entry = fields.mapping(item)
        tag = fields.text(entry, "etag", 200) if "etag" in entry else ""
        size, mtime = fields.whole(entry, "size"), fields.moment(entry, "mtime")
        files.append(FileEntry(fields.path(entry, "path"), size, mtime, tag))
    more = fields.optional_text(value, "next", fields.MAX_PATH) if "next" in value else None
    return FilePage(files, fields.flag(value, "truncated"), more)


def parse_file_info(head: Head) -> FileInfo:
    """What the headers say of the file whose bytes follow."""
    length = head.length()
    try:
        size, mtime = int(head.headers["x-file-size"]), float(head.headers["x-file-mtime"])
        etag = head.headers["etag"]
    except (KeyError, ValueError):
        fields.wrong("a file without size, mtime or ETag")
    if length is None or not 0 <= length <= size or not 0 <= mtime <= fields.MAX_TIME or len(etag) > 200:
        fields.wrong("a file whose headers contradict each other")
    return FileInfo(size=size, length=length, mtime=mtime, etag=etag)
