"""gunicorn's configuration. The figures come from the settings."""

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import sys
import uuid
from typing import Any

from django.conf import settings
from gunicorn import util
from gunicorn.glogging import Logger

from sandbox_platform.errors import ApiError
from sandbox_platform.supervisor.lineage import die_with

_host = f"[{settings.WEB_HOST}]" if ":" in settings.WEB_HOST else settings.WEB_HOST

wsgi_app = "sandbox_platform.wsgi:application"
bind = f"{_host}:{settings.WEB_PORT}"
workers = settings.WEB_PROCESSES
threads = settings.WEB_THREADS
worker_class = "sandbox_platform.supervisor.web_worker.Worker"
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - a heartbeat file that is unlinked at once
keepalive = 75
# Seconds: a worker whose main loop stands still this long is replaced; requests under way get this long at a stop.
timeout = 60
graceful_timeout = 8
# Seconds that a client may take nothing of an answer: a thread must not wait for ever for one that stalls.
SEND_PATIENCE = 60
# Seconds that a client may send nothing of a request that it has begun.
RECEIVE_PATIENCE = 30


class JsonLogger(Logger):
    """Through the project's own formatter. The access line is the middleware's."""

    def setup(self, cfg: Any) -> None:
        """Nothing of gunicorn's own."""
        self.error_log.propagate = True

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """A client that stalls, before its body or in our answer, is no fault of ours."""
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.debug("A client stalled: %s", msg)
        else:
            super().exception(msg, *args, **kwargs)


logger_class = JsonLogger


def refuse(sock: Any, status: int, reason: str, words: str) -> None:
    """What is no HTTP that can be read (a request line that is too long, say) gets the API's envelope too, not gunicorn's page."""
    error = ApiError("InternalError" if status == 500 else "InvalidParameter", words or reason)
    body = json.dumps(error.body(uuid.uuid4().hex)).encode()
    head = f"HTTP/1.1 {error.status} {'Bad Request' if error.status == 400 else reason}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    util.write_nonblock(sock, head.encode() + body)


util.write_error = refuse


def when_ready(server: Any) -> None:
    """Connections inherit it from the socket that they are accepted on."""
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_PATIENCE, 0))
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", RECEIVE_PATIENCE, 0))


def post_fork(server: Any, worker: Any) -> None:
    """A worker does not outlive its master."""
    die_with(server.pid)


def post_worker_init(worker: Any) -> None:
    """What has been loaded stays: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def worker_exit(server: Any, worker: Any) -> None:
    """Nobody has to wait for its heartbeat to go stale."""
    from sandbox_platform.processes import retire

    retire()
