"""The file helper: a process of its own uid that alone touches the workspace on behalf of PID 1."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from executor import wire
from executor.artifacts import Artifacts
from executor.cli import Options
from executor.linux import receive_message, send_message
from executor.log import log
from executor.pool import Pool
from executor.privileges import become_user
from executor.staging import Staging
from executor.transfer import Transfer
from executor.workspace import Workspace


class FileHelper:
    def __init__(self, options: Options, sock: socket.socket) -> None:
        self._sock = sock
        self._workspace = Workspace(options.workspace, self._ask_for_grant)
        self._artifacts = Artifacts(self._workspace, options.user_uid)
        self._staging = Staging(self._workspace)
        self._transfer = Transfer(self._workspace, self._artifacts, self._staging)
        self._root: list[int] = []

    def run(self) -> None:
        self._staging.sweep()
        pool = Pool(self._work)
        while True:
            try:
                message, fds, tail = receive_message(self._sock)
            except EOFError:
                return
            if "serve" in message:
                pool.put(socket.socket(fileno=fds[0]), tail)
            elif "begin" in message:
                self._begin(message)
            elif "end" in message:
                self._end(message)

    def _begin(self, message: dict[str, Any]) -> None:
        if message["root"] != self._root:  # first use, or a workspace that was mounted after our start
            self._root = message["root"]
            self._artifacts.rescan()
        self._artifacts.begin(message["begin"], message["uid"], message["at"])
        if message["tell"]:
            send_message(self._sock, {"begun": message["begin"]})

    def _end(self, message: dict[str, Any]) -> None:
        artifacts, truncated = self._artifacts.end(message["end"])
        send_message(self._sock, {"ended": message["end"], "artifacts": artifacts, "truncated": truncated})

    def _ask_for_grant(self, path: list[str]) -> bool:
        """PID 1 answers through a pipe that goes with the question, so that any thread may ask at any time."""
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            send_message(self._sock, {"grant": path}, (write,))
            os.close(write)
            write = -1
            return os.read(read, 1) == b"1"
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)

    def _work(self, sock: socket.socket, data: bytes) -> None:
        try:
            request = self._transfer.serve(sock, data)
            log("debug", "file_request", method=request.method, request_id=request.request_id)
        except OSError as error:
            log("debug", "file_client_left", error=repr(error))
        except Exception as error:
            log("error", "file_request_failed", error=repr(error))
            self._apologise(sock)
        finally:
            sock.close()

    def _apologise(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(wire.error_answer("internal", "the file helper failed"))


def serve(options: Options, sock: socket.socket) -> None:
    become_user(options.user_uid, options.user_uid)
    FileHelper(options, sock).run()
