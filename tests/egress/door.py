"""The gateway and its proxy, in a network namespace whose only neighbour is the tests' Internet.

`python -m tests.egress.door FOLDER HITS CERTIFICATE LIMITS`: a line in is the set of sandboxes to follow, a line out what the proxy has
dealt with. It ends with its standard input. Servers of the host itself listen here as well: nobody may reach them either.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from runtime.egress import squid
from runtime.egress.gateway import Gateway, Limits, Outlet, Request
from templates_app import hosts
from tests.egress import internet


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def told(request: Request) -> None:
    say(**{**dataclasses.asdict(request), "outlet": request.outlet.session if request.outlet else None})


async def main(folder: Path, limits: Limits) -> None:
    gateway = Gateway(limits, told)
    options = squid.Options(nameservers=(internet.NAMESERVER,), pinned=1)
    gateway.proxy = squid.Squid(folder, hosts, options, gateway.heard)
    gateway.proxy.prepare()
    await gateway.proxy.start()
    say(ready=True)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            if "follow" in order:
                gateway.follow(
                    Outlet(
                        **{
                            **row,
                            "socket": Path(row["socket"]),
                            "hosts": tuple(row["hosts"]),
                            "members": tuple(row["members"]),
                        }
                    )
                    for row in order["follow"]
                )
            say(connections=gateway.connections, most=gateway.most)
    finally:
        await gateway.stop()
        gateway.proxy.stop()


if __name__ == "__main__":
    internet.serve(sys.argv[2], sys.argv[3])
    asyncio.run(main(Path(sys.argv[1]), Limits(**json.loads(sys.argv[4]))))
