"""One part of the service: a process group of its own that is started again when it dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from sandbox_platform.models import Process
from sandbox_platform.supervisor import lineage, logfile

log = structlog.get_logger(__name__)
# Seconds: between a death and the next start, doubled each time; alive this long, a death counts as the first again.
FIRST_PAUSE, LONGEST_PAUSE, STEADY_AFTER = 0.5, 30.0, 60.0


class Part:
    """`name` is web, ticker, egress or a queue. Its standard output and error go to `<state>/logs/<name>.log`."""

    def __init__(self, name: str, forks: bool = False) -> None:
        self.name, self.forks = name, forks
        self.log_path = Path(settings.STATE_DIR) / "logs" / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0
        self._seen: set[int] = set()
        self._started_at = self._start_at = 0.0

    def start(self) -> None:
        """Start it now. Call from the main thread: the kernel ends it with the thread that started it."""
        descriptor = logfile.open_for_append(self.log_path)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox_platform.supervisor.child", str(os.getpid()), self.name],
                cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor,
                start_new_session=True, env={**os.environ, "LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        finally:
            os.close(descriptor)
        self._started_at, self._seen = time.monotonic(), set()

    def tend(self) -> str:
        """Start it (again) if it is down and its pause is over. What happened, for people, or nothing."""
        if self.process is None:
            if time.monotonic() >= self._start_at:
                self.start()
            return ""
        code = self.process.poll()
        if code is not None:
            return self.restart(f"ended with {_describe(code)}")
        if lost := self._lost():
            return self.restart(f"lost its process {lost}")
        return ""

    def restart(self, reason: str) -> str:
        """End what is left of it and start it again after a pause. What happened, for people."""
        now = time.monotonic()
        self.deaths = 1 if now - self._started_at > STEADY_AFTER else self.deaths + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.deaths - 1))
        self.kill()
        self._start_at = now + pause
        log.warning("part_restarted", part=self.name, reason=reason, pause=pause)
        return f"{self.name} {reason}; starting it again in {pause:g} s (see {self.log_path})"

    def ask_to_stop(self) -> None:
        """SIGTERM to the one that leads it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stopped_by(self, deadline: float) -> bool:
        """Wait for its end until that moment of the monotonic clock; then end it by force. False if force was needed."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
            gently = True
        except subprocess.TimeoutExpired:
            gently = False
        self.kill()
        return gently

    def kill(self) -> None:
        """SIGKILL to the whole group; whoever waits for its heartbeats is told."""
        if self.process is None:
            return
        members = lineage.group(self.process.pid) | {self.process.pid}
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        with suppress(DatabaseError):
            mine = Process.objects.filter(host=socket.gethostname(), pid__in=members | self._seen, dead_at=None)
            mine.update(dead_at=timezone.now())

    def _lost(self) -> int | None:
        """A worker that died by itself: it may have held a lock of the queue, and the others would wait for ever."""
        if not self.forks or self.process is None:
            return None
        sentinels = lineage.children(self.process.pid) or set()
        present = sentinels.union(*(lineage.children(pid) or set() for pid in sentinels))
        missing = self._seen - present
        self._seen |= present
        return min(missing) if missing and self.process.poll() is None else None


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
