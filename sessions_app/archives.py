"""A folder as one download: a tar of its files, made while it is sent. Nothing is unpacked here, and no process grows with it."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator

from django.http import StreamingHttpResponse

from sandbox_platform.errors import ApiError
from sessions_app.services.workspace import Content, Entry

BLOCK = 512
# Fast: what is sent is mostly data that was compressed already, or text that compresses well at any level.
LEVEL = 1


def answer(name: str, entries: Iterable[Entry], read: Callable[[str], Content]) -> StreamingHttpResponse:
    """The files as `<name>.tar.gz`. Where one can't be read to its end the connection breaks off: half an archive never looks whole."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.tar.gz"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    return StreamingHttpResponse(_gzipped(_tar(entries, read)), content_type="application/gzip", headers=headers)


def _tar(entries: Iterable[Entry], read: Callable[[str], Content]) -> Iterator[bytes]:
    for entry in entries:
        try:
            content = read(entry.path)
        except ApiError as error:
            if error.code == "FileNotFound":
                continue  # deleted since it was listed
            raise
        info = tarfile.TarInfo(entry.path)
        info.size, info.mtime, info.mode = content.length, int(content.mtime), 0o644
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
        yield from content.body
        yield bytes(-content.length % BLOCK)
    yield bytes(2 * BLOCK)


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    squeeze = zlib.compressobj(LEVEL, wbits=31)
    for piece in pieces:
        if data := squeeze.compress(piece):
            yield data
    yield squeeze.flush()
