"""Carries the connections of sandboxes to the proxy. Each sandbox is told apart by whose socket was called, by nothing that it says.

The gateway calls in at a sandbox's `egress.sock` (`executor/README.md`, "The way out"), is told of each client that waits, calls in once
more for it, and joins that to a connection to the proxy, which it begins with a PROXY header: the address in there is the sandbox's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from runtime.drivers.errors import ExecutorProtocolError, ExecutorUnavailable
from runtime.drivers.executor_client.socket_file import check_peer, new_socket, pinned
from runtime.egress.squid import Squid

log = structlog.get_logger(__name__)
CONTROL, DATA = b"C", b"D"
SOCKET = "egress.sock"
PIECE = 64 * 1024
CALL_TIMEOUT = 5.0
AGAIN = 0.25
"""Seconds until a sandbox that did not answer is called again."""
PACE = 0.002
"""Seconds between two new connections of one sandbox: a flood costs the host little."""
PROXY_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@dataclass(frozen=True)
class Outlet:
    """A sandbox that may go out: the file that its relay listens at, words of its cgroup (see `check_peer`), and its list."""

    name: str
    socket: Path
    members: tuple[str, ...]
    hosts: tuple[str, ...]
    template: str
    session: str

    @property
    def address(self) -> str:
        """What stands for it towards the proxy: unique, and nobody's."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return str(ipaddress.IPv6Address(b"\xfd" + digest[:15]))


@dataclass(frozen=True)
class Limits:
    """Connections at a time of one sandbox and of all; bytes of one connection, both ways together; seconds without a byte."""

    each: int = 64
    total: int = 1024
    size: int = 2**30
    idle: float = 120.0


@dataclass(frozen=True)
class Request:
    """One line of the proxy's log. `verdict` is allowed, denied, or failed (allowed, but not done)."""

    outlet: Outlet | None
    verdict: str
    method: str
    host: str
    port: str
    status: int
    sent: int
    received: int
    milliseconds: int


class Gateway:
    """Follows a changing set of sandboxes. `report` gets each request that the proxy has dealt with."""

    def __init__(self, limits: Limits, report: Callable[[Request], None]) -> None:
        self._limits, self._tell = limits, report
        self.proxy: Squid | None = None
        self._total = asyncio.Semaphore(limits.total)
        self._tasks: dict[Outlet, asyncio.Task[None]] = {}
        self._known: dict[str, Outlet] = {}
        self.connections = self.most = 0

    def follow(self, outlets: Iterable[Outlet]) -> None:
        """These and no others may go out from now on; what others have open is cut. Needs `proxy`."""
        assert self.proxy is not None
        wanted = set(outlets)
        for outlet in set(self._tasks) - wanted:
            self._tasks.pop(outlet).cancel()
            self.proxy.forget(outlet.address)
        for outlet in wanted - set(self._tasks):
            self._known[outlet.address] = outlet
            self.proxy.allow(outlet.address, outlet.template, outlet.hosts)
            self._tasks[outlet] = asyncio.create_task(self._serve(outlet))
        # What is being cut is still to be logged; what is long gone is not.
        gone = [address for address, outlet in self._known.items() if outlet not in self._tasks]
        for address in gone[: max(0, len(gone) - 1000)]:
            del self._known[address]

    async def stop(self) -> None:
        """Cut all."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def heard(self, line: str) -> None:
        """A line of the proxy's log."""
        words = line.split()
        if len(words) != 10:
            return
        address, method, host, port, status, result, error, sent, received, took = words
        verdict = "denied" if "DENIED" in result else "allowed" if error == "-" else "failed"
        if address == "127.0.0.1":
            return  # our own look whether it answers
        numbers = [int(word) if word.isdigit() else 0 for word in (status, sent, received, took)]
        self._tell(Request(self._known.get(address), verdict, method, host, port, *numbers))

    # One sandbox

    async def _serve(self, outlet: Outlet) -> None:
        """Hold the line to its relay, and come for each client that it tells of."""
        slots = asyncio.Semaphore(self._limits.each)
        async with asyncio.TaskGroup() as group:
            while True:
                with contextlib.suppress(OSError, TimeoutError, ExecutorUnavailable, ExecutorProtocolError):
                    reader, writer = await self._call(outlet, CONTROL)
                    try:
                        while told := await reader.read(256):
                            for _ in told:
                                await slots.acquire()
                                await self._total.acquire()
                                group.create_task(self._carry(outlet, slots))
                                await asyncio.sleep(PACE)
                    finally:
                        writer.close()
                await asyncio.sleep(AGAIN)

    async def _call(self, outlet: Outlet, word: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = new_socket()
        sock.setblocking(False)
        try:
            with pinned(outlet.socket) as name:
                async with asyncio.timeout(CALL_TIMEOUT):
                    await asyncio.get_running_loop().sock_connect(sock, name)
            check_peer(sock, outlet.members)
            reader, writer = await asyncio.open_unix_connection(sock=sock, limit=PIECE)
        except BaseException:
            sock.close()
            raise
        writer.write(word)
        return reader, writer

    async def _carry(self, outlet: Outlet, slots: asyncio.Semaphore) -> None:
        """One connection, to its end."""
        ends: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.connections += 1
        self.most = max(self.most, self.connections)
        try:
            assert self.proxy is not None
            ends.append(await self._call(outlet, DATA))
            ends.append(await asyncio.open_connection("127.0.0.1", self.proxy.port, limit=PIECE))
            ends[1][1].write(introduction(outlet.address))
            await self._join(*ends)
        except (OSError, TimeoutError, ExecutorUnavailable, ExecutorProtocolError):
            pass  # one of both has gone
        except Exception:
            log.exception("carrying_failed", sandbox=outlet.name)  # of this one alone
        finally:
            self.connections -= 1
            for _, writer in ends:
                writer.transport.abort()
            slots.release()
            self._total.release()

    async def _join(self, inside: tuple, outside: tuple) -> None:
        meter = _Meter(self._limits.size)
        pumps = [
            asyncio.create_task(_pump(inside[0], outside[1], meter)),
            asyncio.create_task(_pump(outside[0], inside[1], meter)),
        ]
        try:
            pending = set(pumps)
            while pending:
                patience = meter.heard + self._limits.idle - meter.now()
                if patience <= 0:
                    return
                # Once the proxy has said all, nobody needs what the program may still say.
                done, pending = await asyncio.wait(pending, timeout=patience, return_when="FIRST_COMPLETED")
                if pumps[1] in done or any(task.exception() for task in done):
                    return
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


class _Meter:
    """What both ways of a connection have in common: when something came last, and how many bytes may still come."""

    def __init__(self, size: int) -> None:
        self.now = asyncio.get_running_loop().time
        self.heard, self._left = self.now(), size

    def count(self, data: bytes) -> None:
        """Raises ConnectionAbortedError where it is too much."""
        self.heard = self.now()
        self._left -= len(data)
        if self._left < 0:
            raise ConnectionAbortedError("more bytes than a connection may carry")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meter: _Meter) -> None:
    writer.transport.set_write_buffer_limits(high=0)  # so that `drain` means it has left us
    while data := await reader.read(PIECE):
        meter.count(data)
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await writer.drain()


def introduction(address: str) -> bytes:
    """The PROXY header, version 2: who it is that speaks from here on."""
    ends = socket.inet_pton(socket.AF_INET6, address) + socket.inet_pton(socket.AF_INET6, "::1")
    return PROXY_SIGNATURE + b"\x21\x21" + struct.pack("!H", 36) + ends + struct.pack("!HH", 1024, 3128)
