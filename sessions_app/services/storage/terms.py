"""What both kinds of storage speak of: their errors, and a file that is being read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

PIECE = 256 * 1024
Write = Callable[[str, Iterable[bytes]], int]


class StorageUnavailable(Exception):
    """It does not answer, or not as it should. Another try may fare better."""


class NotStored(Exception):
    """There is no such file."""


class NameTaken(Exception):
    """The storage can't keep a file of that name: too long for it, or a folder of that name is in the way."""


@dataclass(frozen=True)
class Stored:
    """A stored file that is being read: `length` bytes follow of its `size`."""

    size: int
    length: int
    etag: str
    body: Iterator[bytes]


class Body:
    """All of the bytes that were announced, or an error: a connection that is cut must not pass for the end of the file."""

    def __init__(self, stream: Any, length: int) -> None:
        self._stream, self._left = stream, length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            self.close()
            raise StopIteration
        try:
            data = cast(bytes, self._stream.read(min(PIECE, self._left)))
        except Exception as error:  # of urllib3 and botocore alike
            self.close()
            raise StorageUnavailable(f"reading failed: {error}") from error
        if not data:
            self.close()
            raise StorageUnavailable("the connection was cut, or the file has shrunk")
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Also before the end."""
        self._stream.close()
