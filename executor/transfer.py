"""The file verbs, each on one connection: list, download, upload, delete. Blocking; the file helper's threads run it."""

from __future__ import annotations

import os
import socket
import stat
import time
from typing import Any

from executor import wire
from executor.artifacts import Artifacts
from executor.body import PIECE, Body
from executor.placing import Placing, check_target
from executor.staging import Staging
from executor.wire import Fault, Request
from executor.workspace import Workspace, as_fault, check_free, etag, mtime

MAX_LISTED = 10_000
MAX_LISTED_BYTES = 2 * 1024 * 1024  # of all paths of one list, each up to 6 in JSON
MAX_LISTED_PATH = 4096  # bytes of one path: more than any client can name or the kernel open at once
MAX_SHOWN = 1000  # of the files of an archive
PATIENCE = 30.0  # seconds without progress after which a client is dropped


class Transfer:
    def __init__(self, workspace: Workspace, artifacts: Artifacts, staging: Staging) -> None:
        self._workspace = workspace
        self._artifacts = artifacts
        self._staging = staging

    def serve(self, sock: socket.socket, data: bytes) -> Request:
        """Answers the request whose first bytes PID 1 has read. Raises OSError when the client goes away."""
        sock.settimeout(PATIENCE)
        head, _, begun = data.partition(b"\r\n\r\n")
        request = wire.parse_head(head)
        try:
            name = request.path[len("/v1/files/") :]
            if request.path in ("/v1/files", "/v1/files/") and request.method == "GET":
                sock.sendall(self._list(request))
            elif request.method == "PUT" and (name or request.path == "/v1/files"):
                sock.sendall(self._upload(sock, request, begun, name))
            elif not name:
                raise Fault("bad_request", "no path")
            elif request.method == "GET":
                self._download(sock, request, wire.workspace_path(name))
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
        after = request.query.get("after", "").split("/") if request.query.get("after") else None
        files: list[dict[str, Any]] = []
        truncated, more, room = False, None, MAX_LISTED_BYTES
        for found in self._workspace.walk(start, request.flag("recursive"), after):
            if found is None:
                truncated = True  # and on with the rest
                continue
            path, info = found
            if not path.startswith(prefix):
                continue
            length = len(path.encode())
            if length > MAX_LISTED_PATH:
                truncated = True
                continue
            room -= length
            if files and (len(files) >= limit or room < 0):
                truncated, more = True, files[-1]["path"]
                break
            files.append({"path": path, "size": info.st_size, "mtime": mtime(info), "etag": etag(info)})
        return wire.json_answer(200, {"files": files, "truncated": truncated, "next": more})

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
                "X-File-Mtime": mtime(info),
                "ETag": etag(info),
            }
            sock.sendall(wire.head(200, headers))
            if length:  # where the file shrinks, the connection ends before Content-Length, which the client sees
                with open(fd, "rb", buffering=0, closefd=False) as file:
                    sock.sendfile(file, offset, length)
        finally:
            os.close(fd)

    def _upload(self, sock: socket.socket, request: Request, begun: bytes, name: str) -> bytes:
        """`name` is empty where the path comes behind the body."""
        body = Body(sock, request, begun)
        try:
            if request.flag("extract"):
                return self._extract(body)
            path, size = self._store(wire.workspace_path(name) if name else None, body)
        except (ConnectionError, TimeoutError, socket.timeout):  # noqa: UP041 - not yet one class in Python 3.8
            raise
        except OSError as error:
            raise as_fault(error) from None
        return wire.json_answer(200, {"path": "/".join(path), "size": size})

    def _store(self, path: list[str] | None, body: Body) -> tuple[list[str], int]:
        """Writes under a temporary name, then renames: the old or the new, never half."""
        if path is not None:
            check_free(path)
            os.close(self._destination(path))  # refused at once rather than at the end
        with self._staging.file() as (fd, temporary, top):
            size = _receive(body, fd)
            if path is None:
                path = wire.workspace_path(body.trailers.get("x-path", ""))
                check_free(path)
            name, folder = path[-1], self._destination(path)
            try:
                self._workspace.granted(
                    path[:-1], lambda: os.rename(temporary, name, src_dir_fd=top, dst_dir_fd=folder)
                )
            finally:
                os.close(folder)
            self._artifacts.uploaded("/".join(path), os.fstat(fd))
        return path, size

    def _destination(self, path: list[str]) -> int:
        folder = self._workspace.folder(path[:-1], create=True)
        try:
            check_target(folder, path[-1])
        except BaseException:
            os.close(folder)
            raise
        return folder

    def _extract(self, body: Body) -> bytes:
        """Unpacks what is uploaded, aside, and moves all of it to its place, or nothing."""
        from executor.unpack import unpack  # not before: a sandbox that never unpacks does without the libraries

        with self._staging.file() as (fd, _, _), self._staging.folder() as (stage, _):
            _receive(body, fd)
            below = body.trailers.get("x-path", "")
            target = wire.workspace_path(below) if below else []
            unpack(fd, stage, len("/".join(target).encode()) + 1)
            placed = Placing(self._workspace, stage, target).run()
        for file in placed:
            self._artifacts.uploaded(file.path, file.info)
        shown = [{"path": file.path, "size": file.info.st_size} for file in placed[:MAX_SHOWN]]
        answer = {
            "path": "/".join(target), "size": sum(file.info.st_size for file in placed), "count": len(placed),
            "files": shown, "truncated": len(shown) < len(placed),
        }  # fmt: skip
        return wire.json_answer(200, answer)

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


def _receive(body: Body, fd: int) -> int:
    size = 0
    while piece := body.read():
        _write_all(fd, piece)
        size += len(piece)
    return size


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
