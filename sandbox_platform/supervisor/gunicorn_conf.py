"""gunicorn's configuration. The figures come from the settings."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from gunicorn.glogging import Logger

from sandbox_platform.supervisor.lineage import die_with

_host = f"[{settings.WEB_HOST}]" if ":" in settings.WEB_HOST else settings.WEB_HOST

wsgi_app = "sandbox_platform.wsgi:application"
bind = f"{_host}:{settings.WEB_PORT}"
workers = settings.WEB_PROCESSES
threads = settings.WEB_THREADS
worker_class = "gthread"
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - a heartbeat file that is unlinked at once
keepalive = 75
# Seconds: a worker whose main loop stands still this long is replaced; requests under way get this long at a stop.
timeout = 60
graceful_timeout = 8


class JsonLogger(Logger):
    """Through the project's own formatter. The access line is the middleware's."""

    def setup(self, cfg: Any) -> None:
        """Nothing of gunicorn's own."""
        self.error_log.propagate = True


logger_class = JsonLogger


def post_fork(server: Any, worker: Any) -> None:
    """A worker does not outlive its master."""
    die_with(server.pid)


def worker_exit(server: Any, worker: Any) -> None:
    """Nobody has to wait for its heartbeat to go stale."""
    from sandbox_platform.processes import retire

    retire()
