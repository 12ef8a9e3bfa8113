"""The body of a request, as it arrives."""

from __future__ import annotations

import socket

from executor.wire import Fault, Request, parse_header

PIECE = 128 * 1024
MAX_TRAILERS = 16


class Body:
    """The request's body, chunked or of a known length, piece by piece. `trailers` are known once a chunked one has ended."""

    def __init__(self, sock: socket.socket, request: Request, begun: bytes) -> None:
        self._sock = sock
        self._buffer = begun
        self._chunked = request.chunked
        length = request.content_length
        if not self._chunked and length is None:
            raise Fault("bad_request", "a body needs Content-Length or Transfer-Encoding: chunked")
        self._left = 0 if self._chunked else length or 0
        self._over = False
        self.trailers: dict[str, str] = {}

    def _more(self) -> None:
        data = self._sock.recv(PIECE)
        if not data:
            raise ConnectionError("the body ended early")
        self._buffer = self._buffer + data if self._buffer else data

    def _line(self, limit: int = 1024) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > limit:
                raise Fault("bad_request", "a malformed chunk")
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _next_chunk(self) -> None:
        try:
            self._left = int(self._line().partition(b";")[0], 16)
        except ValueError:
            raise Fault("bad_request", "a malformed chunk") from None
        if self._left == 0:
            while line := self._line(8 * 1024):
                name, value = parse_header(line)
                if len(self.trailers) >= MAX_TRAILERS:
                    raise Fault("bad_request", "too many trailers")
                self.trailers[name] = value
            self._over = True

    def read(self) -> bytes:
        """The next piece; empty at the end. Raises ConnectionError when the client leaves before."""
        if self._chunked and self._left == 0 and not self._over:
            self._next_chunk()
        if self._left == 0:
            return b""
        if not self._buffer:
            self._more()
        if len(self._buffer) <= self._left:
            piece, self._buffer = self._buffer, b""
        else:
            piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(piece)
        if self._chunked and self._left == 0 and self._line():
            raise Fault("bad_request", "a malformed chunk")
        return piece
