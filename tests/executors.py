"""An executor that does as it is told, on a real socket: for tests of whoever drives runs."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db.models import F

from executions_app.models import Execution
from runtime.models import Container
from sessions_app.models import Session
from tests.factories import ExecutionFactory, SessionFactory

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
DONE = b"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n"
Behaviour = Callable[[str, socket.socket], None]
"""Is given "PUT exec_1" (the verb, and what stands behind /v1/runs/) and the connection, which is closed behind it."""


def result(outcome: str = "ok") -> bytes:
    """A whole answer: the result alone."""
    told = {
        **{"t": "result", "outcome": outcome, "exit_code": 0, "return_value": None, "error": None, "artifacts": []},
        **dict.fromkeys(("duration_ms", "cpu_time_ms", "peak_memory_mb", "stdout_bytes", "stderr_bytes"), 0),
        **{"stdout_omitted": 0, "stderr_omitted": 0, "artifacts_truncated": False},
    }
    return EVENTS + json.dumps(told).encode() + b"\n"


def refusal(status: int, code: str) -> bytes:
    """Its error."""
    body = json.dumps({"error": code, "message": code}).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


class Executor:
    """Answers each request by `behave`, each by a thread of its own, and remembers them in `asked`."""

    def __init__(self, path: Path, behave: Behaviour) -> None:
        self.path, self.behave = path, behave
        self.asked: list[str] = []
        self.over = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(128)
        threading.Thread(target=self._serve, daemon=True).start()

    def session(self, **values: object) -> str:
        """A running session whose sandbox this is. Its id."""
        session = SessionFactory(running=True, **values)
        Container.objects.filter(pk=session.container_id).update(socket=str(self.path), ref=None)
        return session.pk

    def execution(self, session_id: str, **values: object) -> Execution:
        """One that runs in it."""
        session = Session.objects.select_related("container").get(pk=session_id)
        Session.objects.filter(pk=session_id).update(active_runs=F("active_runs") + 1)
        return ExecutionFactory(session=session, status="running", **values)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            raw = b""
            while b"\r\n\r\n" not in raw:
                raw += connection.recv(65536) or b"\r\n\r\n"
            head, _, body = raw.partition(b"\r\n\r\n")
            lengths = [
                line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
            ]
            while lengths and len(body) < int(lengths[0]):
                body += connection.recv(65536)
            verb, target = head.decode().split(" ")[:2]
            request = f"{verb} {target.partition('?')[0].removeprefix('/v1/runs/')}"
            self.asked.append(request)
            self.behave(request, connection)

    def close(self) -> None:
        """Gone."""
        self.over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def executor(path: Path, behave: Behaviour) -> Iterator[Executor]:
    """One, until the end of the block."""
    made = Executor(path, behave)
    try:
        yield made
    finally:
        made.close()
