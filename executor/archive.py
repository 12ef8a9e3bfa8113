"""What is in a tar or zip, entry by entry, by whoever made it: nothing of it is believed, and nothing is read without a bound."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from executor.wire import MAX_PATH, Fault

PIECE = 256 * 1024
MAX_ENTRIES = 10_000  # files and folders, those included that are only named in paths
MAX_TOTAL = 1024 * 1024 * 1024  # bytes of all files together
MAX_RATIO = 200  # unpacked to packed; a bomb has thousands
FREE_OF_RATIO = 16 * 1024 * 1024  # bytes that may be unpacked whatever the ratio
MAX_SEGMENT = 255
MAX_LEVELS = 64
TAIL = 1024 * 1024  # bytes behind the end of a tar that are still checked

# What these libraries raise for bytes that are not what they should be.
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, ValueError, IndexError, KeyError,
    NotImplementedError, OverflowError, RecursionError,
)  # fmt: skip


class Entry:
    """A folder, or a file whose bytes `read(size)` gives. `name` is as the archive has it."""

    def __init__(self, name: str, read: Callable[[int], bytes] | None, executable: bool) -> None:
        self.name, self.read, self.executable = name, read, executable


class Budget:
    """What an archive may still take. Raises Fault too_large."""

    def __init__(self, packed: int) -> None:
        self._entries, self._bytes = 0, 0
        self._most = min(MAX_TOTAL, max(FREE_OF_RATIO, packed * MAX_RATIO))
        self._bomb = self._most < MAX_TOTAL

    def entry(self) -> None:
        """One more file or folder."""
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise Fault("too_large", f"the archive has more than {MAX_ENTRIES} files and folders")

    def room(self, size: int) -> None:
        """A file says that it has so many bytes."""
        if self._bytes + size > self._most:
            words = f"{MAX_RATIO} times its own size" if self._bomb else f"{MAX_TOTAL} bytes"
            raise Fault("too_large", f"the archive unpacks to more than {words}")

    def spend(self, size: int) -> None:
        """So many bytes were unpacked."""
        self.room(size)
        self._bytes += size


def entries(file: BinaryIO, budget: Budget) -> Iterator[Entry]:
    """The folders and files, in the archive's order. Raises Fault for all that is not plainly one, and the errors of DAMAGED."""
    magic = file.read(6)
    file.seek(0)
    if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip(file, budget)
    opener: Any = None
    if magic[:2] == b"\x1f\x8b":
        opener = gzip.GzipFile(fileobj=file)
    elif magic[:3] == b"BZh":
        opener = bz2.BZ2File(file)
    elif magic == b"\xfd7zXZ\x00":
        opener = lzma.LZMAFile(file)  # noqa: SIM115 - closed with the process
    return _tar(opener or file, budget)


def segments(name: str, below: int) -> list[str]:
    """The plain segments of an entry's name; none for the top itself. `below` is the length in bytes of where it goes to."""
    shown = repr(name[:100])
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise Fault("bad_request", f"the archive has a name that is not UTF-8: {shown}") from None
    found = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in found or "\0" in name:
        raise Fault("bad_request", f"the archive has a path that leads out of it: {shown}")
    if below + len("/".join(found).encode()) > MAX_PATH or any(len(part.encode()) > MAX_SEGMENT for part in found):
        raise Fault("bad_request", f"the archive has a path that is too long: {shown}")
    if len(found) > MAX_LEVELS:
        raise Fault("bad_request", f"the archive is more than {MAX_LEVELS} folders deep: {shown}")
    return found


def _no_plain_file(name: str) -> Fault:
    return Fault("bad_request", f"the archive has links or special files, which are not unpacked: {name[:100]!r}")


class _Header(tarfile.TarInfo):
    """The library takes a damaged header in the middle for the end of the archive: half of it would look whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError:
            words = "is cut short" if len(buf) < tarfile.BLOCKSIZE else "is damaged, or is neither tar nor zip"
            raise Fault("bad_request", f"the archive {words}") from None


def _tar(file: Any, budget: Budget) -> Iterator[Entry]:
    archive: Any = tarfile.TarFile(fileobj=file, tarinfo=_Header, errorlevel=2)
    while (info := archive.next()) is not None:
        archive.members.clear()  # the library keeps them all
        if info.isdir():
            yield Entry(info.name, None, False)
        elif info.isreg():
            budget.room(info.size)
            content = archive.extractfile(info)
            assert content is not None
            yield Entry(info.name, content.read, bool(info.mode & 0o100))
        else:
            raise _no_plain_file(info.name)
    file.read(TAIL)  # to the checksums of the compression


def _zip(file: BinaryIO, budget: Budget) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            budget.entry()
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_plain_file(info.filename)
            if info.is_dir():
                yield Entry(info.filename, None, False)
                continue
            if info.flag_bits & 1:
                raise Fault("bad_request", "the archive is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Fault("bad_request", "the archive is compressed in another way than stored or deflated")
            budget.room(info.file_size)
            with archive.open(info) as content:
                yield Entry(info.filename, content.read, bool((info.external_attr >> 16) & 0o100))
