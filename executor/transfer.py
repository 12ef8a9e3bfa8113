"""The file verbs, each on one connection: list, download, upload, delete. Blocking; the file helper's threads run it."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from typing import Any

from executor import wire
from executor.artifacts import Artifacts
from executor.wire import Fault, Request
from executor.workspace import TEMPORARY, Workspace, as_fault, etag

PIECE = 128 * 1024
MAX_LISTED = 10_000
PATIENCE = 30.0  # seconds without progress after which a client is dropped


class Body:
    """The request's body, chunked or of a known length, piece by piece."""

    def __init__(self, sock: socket.socket, request: Request, begun: bytes) -> None:
        self._sock = sock
        self._buffer = begun
        self._chunked = request.chunked
        length = request.content_length
        if not self._chunked and length is None:
            raise Fault("bad_request", "a body needs Content-Length or Transfer-Encoding: chunked")
        self._left = 0 if self._chunked else length or 0
        self._over = False

    def _more(self) -> None:
        data = self._sock.recv(PIECE)
        if not data:
            raise ConnectionError("the body ended early")
        self._buffer += data

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > 1024:
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
            while self._line():  # trailers
                pass
            self._over = True

    def read(self) -> bytes:
        """The next piece; empty at the end. Raises ConnectionError when the client leaves before."""
        if self._chunked and self._left == 0 and not self._over:
            self._next_chunk()
        if self._left == 0:
            return b""
        if not self._buffer:
            self._more()
        piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(piece)
        if self._chunked and self._left == 0 and self._line():
            raise Fault("bad_request", "a malformed chunk")
        return piece


class Transfer:
    def __init__(self, workspace: Workspace, artifacts: Artifacts) -> None:
        self._workspace = workspace
        self._artifacts = artifacts

    def serve(self, sock: socket.socket, data: bytes) -> Request:
        """Answers the request whose first bytes PID 1 has read. Raises OSError when the client goes away."""
        sock.settimeout(PATIENCE)
        head, _, begun = data.partition(b"\r\n\r\n")
        request = wire.parse_head(head)
        try:
            name = request.path[len("/v1/files/") :]
            if request.path in ("/v1/files", "/v1/files/") and request.method == "GET":
                sock.sendall(self._list(request))
            elif not name:
                raise Fault("bad_request", "no path")
            elif request.method == "GET":
                self._download(sock, request, wire.workspace_path(name))
            elif request.method == "PUT":
                sock.sendall(self._upload(sock, request, begun, name))
            elif request.method == "DELETE":
                sock.sendall(self._delete(wire.workspace_path(name)))
            else:
                raise Fault("bad_request", "no such method")
        except Fault as fault:
            sock.sendall(wire.error_answer(fault.code, fault.message))
            _let_finish(sock)
        return request

    def _list(self, request: Request) -> bytes:
        prefix = request.query.get("prefix", "")
        limit = min(request.number("limit", MAX_LISTED), MAX_LISTED)
        start = prefix.split("/")[:-1]
        if any(part in ("", ".", "..") for part in start) or "\0" in prefix:
            raise Fault("bad_request", "prefix is not the beginning of a relative path")
        files: list[dict[str, Any]] = []
        truncated = False
        for found in self._workspace.walk(start, deep=request.flag("recursive")):
            if found is None or (len(files) >= limit and found[0].startswith(prefix)):
                truncated = True
                break
            path, info = found
            if path.startswith(prefix):
                files.append({"path": path, "size": info.st_size, "mtime": info.st_mtime, "etag": etag(info)})
        return wire.json_answer(200, {"files": files, "truncated": truncated})

    def _download(self, sock: socket.socket, request: Request, path: list[str]) -> None:
        offset = request.number("offset", 0)
        fd = self._workspace.open_file(path)
        try:
            info = os.fstat(fd)
            length = max(0, min(request.number("length", info.st_size), info.st_size - offset))
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": length,
                "X-File-Size": info.st_size,
                "X-File-Mtime": info.st_mtime,
                "ETag": etag(info),
            }
            sock.sendall(wire.head(200, headers))
            while length:
                piece = os.pread(fd, min(PIECE, length), offset)
                if not piece:
                    return  # the file has shrunk: the connection ends before Content-Length, which the client sees
                sock.sendall(piece)
                offset += len(piece)
                length -= len(piece)
        finally:
            os.close(fd)

    def _upload(self, sock: socket.socket, request: Request, begun: bytes, name: str) -> bytes:
        body = Body(sock, request, begun)
        path = wire.workspace_path(name)
        try:
            size = self._store(path, body)
        except (ConnectionError, TimeoutError, socket.timeout):  # noqa: UP041 - not yet one class in Python 3.8
            raise
        except OSError as error:
            raise as_fault(error) from None
        return wire.json_answer(200, {"path": "/".join(path), "size": size})

    def _store(self, path: list[str], body: Body) -> int:
        """Writes under a temporary name in the destination's folder, then renames: the old or the new, never half."""
        folder = self._workspace.folder(path[:-1], create=True)
        temporary = TEMPORARY + os.urandom(8).hex()
        try:
            _check_target(folder, path[-1])
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = self._workspace.granted(path[:-1], lambda: os.open(temporary, flags, 0o664, dir_fd=folder))
            try:
                size = 0
                while piece := body.read():
                    _write_all(fd, piece)
                    size += len(piece)
                os.rename(temporary, path[-1], src_dir_fd=folder, dst_dir_fd=folder)
                self._artifacts.uploaded("/".join(path), os.fstat(fd))
            except BaseException:
                _remove_quietly(folder, temporary)
                raise
            finally:
                os.close(fd)
        finally:
            os.close(folder)
        return size

    def _delete(self, path: list[str]) -> bytes:
        folder = self._workspace.folder(path[:-1])

        def unlink() -> int:
            if not stat.S_ISREG(os.stat(path[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                raise Fault("not_found", "no regular file at that path")
            os.unlink(path[-1], dir_fd=folder)
            return 0

        try:
            self._workspace.granted(path[:-1], unlink)
        except OSError as error:
            raise as_fault(error) from None
        finally:
            os.close(folder)
        return wire.head(204, {})


def _let_finish(sock: socket.socket) -> None:
    """Throws away the rest of a refused upload: a client that is still sending listens only afterwards."""
    sock.shutdown(socket.SHUT_WR)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and sock.recv(PIECE):
        pass


def _check_target(folder: int, name: str) -> None:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise Fault("conflict", "a folder is in the way")
    if not stat.S_ISREG(mode):
        raise Fault("not_found", "what is at that path is no regular file")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _remove_quietly(folder: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
