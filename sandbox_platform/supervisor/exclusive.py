"""What only one supervisor may have: the state folder and the port."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from sandbox_platform.models import Process
from sandbox_platform.supervisor.console import CannotStart


@contextmanager
def state_folder() -> Iterator[None]:
    """Hold the state folder. Raises CannotStart where another supervisor does."""
    path = Path(settings.STATE_DIR) / "supervisor.lock"
    try:
        file = path.open("a+")
    except OSError as error:
        raise CannotStart(
            f"{settings.STATE_DIR} can't be written to ({error.strerror}): set SANDBOX_STATE_DIR"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CannotStart(
                f"The service runs already on {settings.STATE_DIR} (process {file.read().strip() or '?'}). "
                "Stop it, or set SANDBOX_STATE_DIR and PORT for another one."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_port() -> None:
    """Raise CannotStart where the web server's address can't be had."""
    family = socket.AF_INET6 if ":" in settings.WEB_HOST else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.WEB_HOST, settings.WEB_PORT))
        except OSError as error:
            raise CannotStart(
                f"{settings.WEB_HOST}:{settings.WEB_PORT} can't be listened on ({error.strerror}): "
                f"choose another port, PORT={settings.WEB_PORT + 1} make run"
            ) from error


def bury_predecessors() -> None:
    """Processes of an earlier start on this host that are no more: nobody has to wait for their heartbeats."""
    with suppress(DatabaseError):
        for row in Process.objects.filter(host=socket.gethostname(), dead_at=None):
            if not Path(f"/proc/{row.pid}").exists():
                Process.objects.filter(pk=row.pk).update(dead_at=timezone.now())
