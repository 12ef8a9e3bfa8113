"""What is kept of a run's output."""

from __future__ import annotations

KEPT = 512 * 1024


class Stream:
    """One output stream, addressed by byte offset: the first and the last 512 KiB are kept, the middle is counted."""

    def __init__(self) -> None:
        self.total = 0
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        room = KEPT - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * KEPT:  # trimmed now and then, so that a flood isn't copied again and again
            self._trim()

    def finish(self) -> None:
        self._trim()

    def _trim(self) -> None:
        del self._tail[: max(0, len(self._tail) - KEPT)]

    @property
    def omitted(self) -> int:
        return self.total - len(self._head) - min(KEPT, len(self._tail))

    @property
    def kept(self) -> int:
        """Bytes of memory held."""
        return len(self._head) + len(self._tail)

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """Up to `limit` bytes from `offset` on, or from the end of the gap that `offset` lies in, and where they begin."""
        if offset < len(self._head):
            return offset, bytes(self._head[offset : offset + limit])
        first = self.total - min(KEPT, len(self._tail))
        start = max(offset, first)
        skip = start - (self.total - len(self._tail))
        return start, bytes(self._tail[skip : skip + limit])
