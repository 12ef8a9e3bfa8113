"""`manage.py egress`: the host's end of egress. One a host is enough, and more would each serve the same sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connection

from runtime.egress.gateway import Gateway, Limits, Request
from runtime.egress.squid import Options, Squid
from runtime.services import outlets
from sandbox_platform import processes
from templates_app import hosts

log = structlog.get_logger(__name__)
LOOK_EVERY = 0.3
"""Seconds between two looks at the rows."""


class Command(BaseCommand):
    """Starts the proxy once a template or a session has a list. The rows say who may go out; it holds nothing of its own."""

    help = "Carry the connections of sandboxes that may reach hosts to a filtering proxy (squid)."

    def handle(self, *args: Any, **options: Any) -> None:
        """Until SIGTERM or SIGINT. Raises CommandError where the proxy can't be started, or dies."""
        try:
            asyncio.run(Door().run())
        except RuntimeError as error:
            raise CommandError(str(error)) from error
        finally:
            processes.retire()


class Door:
    """The rows on one side, the gateway and its proxy on the other."""

    def __init__(self) -> None:
        self._counted: Counter[tuple[str, str]] = Counter()
        self._database = ThreadPoolExecutor(1)  # whose one thread has the one connection
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until it is told to stop. Raises RuntimeError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        limits = Limits(
            settings.EGRESS_SESSION_CONNECTIONS,
            settings.EGRESS_CONNECTIONS,
            settings.EGRESS_CONNECTION_BYTES,
            settings.EGRESS_IDLE_TIMEOUT,
        )
        gateway = Gateway(limits, self._seen)
        proxy = Squid(folder(), hosts, _options(), gateway.heard)
        try:
            while not self._stop.is_set():
                await self._look(gateway, proxy)
                if gateway.proxy is not None and not proxy.alive:
                    raise RuntimeError("squid has died")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), LOOK_EVERY)
        finally:
            await gateway.stop()
            proxy.stop()

    async def _look(self, gateway: Gateway, proxy: Squid) -> None:
        ask = asyncio.get_running_loop().run_in_executor
        try:
            await ask(self._database, processes.own_id)
            if gateway.proxy is None and await ask(self._database, outlets.wanted):
                proxy.prepare()
                await proxy.start()
                gateway.proxy = proxy
                log.info("egress_proxy_started", port=proxy.port)
            if gateway.proxy is not None:
                gateway.follow(await ask(self._database, outlets.outlets))
                done = Counter(self._counted)
                await ask(self._database, outlets.count, done)
                self._counted -= done
        except (DatabaseError, InterfaceError) as error:
            # Who may go out stays as it was last known; sandboxes that are gone close their own ends.
            log.warning("database_unavailable", error=str(error))
            await ask(self._database, connection.close)

    def _seen(self, request: Request) -> None:
        outlet = request.outlet
        log.info(
            "egress", verdict=request.verdict, session=outlet.session if outlet else None, sandbox=outlet.name if outlet else None,
            template=outlet.template if outlet else None, method=request.method, host=request.host, port=request.port,
            status=request.status, sent=request.sent, received=request.received, milliseconds=request.milliseconds,
        )  # fmt: skip
        if outlet:
            self._counted[outlet.template, request.verdict] += 1


def folder() -> Path:
    """Where the proxy's user may read: the state folder is closed to it. The same at each start, so that nothing is left behind."""
    if os.geteuid() != 0:
        return Path(settings.STATE_DIR) / "egress"
    digest = hashlib.sha256(str(settings.STATE_DIR).encode()).hexdigest()[:8]
    return Path("/run") / f"sandbox-egress-{settings.INSTANCE_ID[:20]}-{digest}"


def _options() -> Options:
    return Options(
        nameservers=tuple(settings.EGRESS_NAMESERVERS),
        refused=tuple(settings.EGRESS_REFUSED_NETWORKS),
        idle=settings.EGRESS_IDLE_TIMEOUT,
    )
