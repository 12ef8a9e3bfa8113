"""Whose line of the proxy's log it is stays known for as long as it may be written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock

from runtime.egress.gateway import Gateway, Limits, Outlet, Request


def outlet(name: str) -> Outlet:
    return Outlet(name, Path("/nowhere/egress.sock"), (), ("example.org",), "template", name)


def test_the_eldest_sandbox_is_known_while_it_lives_however_many_came_and_went() -> None:
    heard: list[Request] = []

    async def many() -> None:
        gateway = Gateway(Limits(), heard.append)
        gateway.proxy = Mock()
        eldest, young = outlet("eldest"), [outlet(f"young-{number}") for number in range(1500)]
        gateway.follow([eldest])
        gateway.follow([eldest, *young])
        gateway.follow([eldest])
        for one in (eldest, *young):
            gateway.heard(f"{one.address} GET example.org 80 200 TCP_MISS - 1 2 3")
        await gateway.stop()

    asyncio.run(many())
    assert heard[0].outlet == outlet("eldest")
    # Of those that are gone, not all: what the gateway remembers is bounded.
    assert sum(request.outlet is not None for request in heard) == 1001
