"""The running service: its parts, watched, and how it ends."""

from __future__ import annotations

import http.client
import signal
import sys
import time
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError

from runtime.egress import squid
from sandbox_platform import health
from sandbox_platform.canary import Canary
from sandbox_platform.queue import Queue
from sandbox_platform.supervisor import logfile
from sandbox_platform.supervisor.console import CannotStart, say, warn
from sandbox_platform.supervisor.hello import Api
from sandbox_platform.supervisor.part import Part

log = structlog.get_logger(__name__)
# Seconds.
LOOK_EVERY = 0.3
READY_WITHIN = 90.0
WEB_GRACE, SESSIONS_GRACE, WORKERS_GRACE = 10.0, 25.0, 15.0


class Stop(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP, wherever the main thread is. Another one while stopping hurries it."""


def stop_on_signals() -> None:
    """From now on these signals raise Stop."""

    def told(number: int, frame: Any) -> None:
        raise Stop

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, told)


class Service:
    """web, ticker, one group of workers a queue, and the egress gateway where its proxy is installed."""

    def __init__(self) -> None:
        self.web, self.ticker = Part("web"), Part("ticker")
        self.queues = {queue: Part(str(queue), forks=True) for queue in Queue}
        # Without squid there is none, and sessions that ask for hosts are told so.
        self.egress = Part("egress") if squid.program() else None
        self.canaries: list[Canary] = []

    @property
    def parts(self) -> list[Part]:
        """All of them."""
        return [self.web, *self.queues.values(), self.ticker, *([self.egress] if self.egress else [])]

    def start(self) -> None:
        """Start what a first run needs, wait until /ready says 200. Raises CannotStart."""
        self.canaries = [
            Canary(Queue.RUNS, patience=10),
            Canary(Queue.LIFECYCLE, patience=60),
        ]
        first = [self.web, self.queues[Queue.RUNS], self.queues[Queue.LIFECYCLE]]
        for part in first:
            part.start()
        end = time.monotonic() + READY_WITHIN
        while not (state := self._ready())[0]:
            self._look(first)
            for part in first:
                if part.deaths >= 3:
                    raise CannotStart(
                        f"{part.name} does not start: {logfile.last_words(part.log_path)} (see {part.log_path})"
                    )
            if time.monotonic() > end:
                raise CannotStart(f"Not ready after {READY_WITHIN:g} s: {state[1]} (see {settings.STATE_DIR}/logs)")
            time.sleep(0.1)

    def watch(self) -> None:
        """Start the rest, and keep all of it alive until Stop is raised."""
        self.canaries.append(Canary(Queue.BUILDS, patience=60, busy=_builds_under_way))
        self.canaries.append(Canary(Queue.COPIES, patience=60, busy=_copies_under_way))
        looked = 0
        while True:
            self._look(self.parts)
            looked += 1
            if looked % 100 == 0:
                for part in self.parts:
                    logfile.trim(part.log_path)
            time.sleep(LOOK_EVERY)

    def stop(self) -> bool:
        """Web first, then sessions are ended and given back, then the workers, then a last sweep. False if force was needed."""
        gently = True
        for phase in (self._stop_web, self._end_sessions, self._stop_workers, self._sweep):
            try:
                gently = phase() and gently
            except Stop:
                warn("Told again: not waiting any longer")
                gently = False
        for part in self.parts:
            part.kill()
        return gently

    def _look(self, parts: list[Part]) -> None:
        for part in parts:
            if happened := part.tend():
                warn(happened)
        for canary in self.canaries:
            part = self.queues[canary.queue]
            if part.process is None:
                canary.reset()
            elif canary.wedged():
                warn(part.restart("does not take tasks"))
                canary.reset()

    def _ready(self) -> tuple[bool, str]:
        try:
            status, body = Api().call("GET", "/ready")
        except (OSError, http.client.HTTPException, ValueError):
            return False, "the web server does not answer"
        wrong = [f"{name}: {state}" for name, state in body.get("checks", {}).items() if state != "ok"]
        # An operator who has switched the nodes off needs the console to switch them on again.
        fine = status == 200 or wrong == [f"runtime: {health.SWITCHED_OFF}"]
        return fine, ", ".join(wrong) or f"/ready answers {status}"

    def _stop_web(self) -> bool:
        say("web", "stopping")
        self.web.ask_to_stop()
        return self.web.stopped_by(time.monotonic() + WEB_GRACE)

    def _end_sessions(self) -> bool:
        from sessions_app.services import lifecycle

        if self.queues[Queue.LIFECYCLE].process is None:
            return False
        say("sessions", "ending, and giving back what they hold")
        try:
            lifecycle.end_all("The service was stopped")
            return lifecycle.wait_released(SESSIONS_GRACE)
        except DatabaseError as error:
            warn(f"Sessions could not be ended: {error}")
            return False

    def _stop_workers(self) -> bool:
        say("workers", "stopping")
        # A build may take minutes, and the next start does it anew: what is half made has a name of its own.
        self.queues[Queue.BUILDS].kill()
        # A file that is half copied was never seen, and its debt stands in a row.
        self.queues[Queue.COPIES].kill()
        workers = [
            self.queues[Queue.RUNS],
            self.queues[Queue.LIFECYCLE],
            self.ticker,
            *([self.egress] if self.egress else []),
        ]
        for part in workers:
            part.ask_to_stop()
        deadline = time.monotonic() + WORKERS_GRACE
        return all([part.stopped_by(deadline) for part in workers])

    def _sweep(self) -> bool:
        from runtime.services import reconciler
        from sessions_app.services import debts

        try:
            spared = debts.unsaved_containers()
            if spared:
                warn(
                    f"{len(spared)} sandboxes stay: the storage has not taken their files yet. The next start saves them."
                )
            reconciler.remove_everything(spared)
        except DatabaseError as error:
            warn(f"The last sweep failed: {error}. The next start makes up for it.")
            return False
        return True


def _builds_under_way() -> bool:
    """A build takes minutes, and its worker takes no canary meanwhile."""
    from templates_app import services

    return services.building()


def _copies_under_way() -> bool:
    """Large files on a slow storage take minutes."""
    from sessions_app.models import StorageDebt

    return StorageDebt.objects.exclude(taker=None).exists()


def exit_code(gently: bool) -> int:
    """0, or 1 where something had to be ended by force."""
    if not gently:
        print("  Stopped by force: the next start cleans up what may be left.", file=sys.stderr)
    return 0 if gently else 1
