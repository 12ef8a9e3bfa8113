"""From a fresh PID 1 to a serving one."""

from __future__ import annotations

import gc
import os

from executor import apart, procfs
from executor.cli import Options
from executor.helper import Helper
from executor.linux import PR_SET_DUMPABLE, prctl
from executor.log import log
from executor.loop import Loop
from executor.node_probe import NodeProbe
from executor.server import Server
from executor.supervisor import Supervisor

BOOT_PATIENCE = 10.0  # seconds that the relay may take to open its port, and the zygote to make a namespace


def run(options: Options) -> int:
    prctl(PR_SET_DUMPABLE, 0)
    os.chdir("/")
    os.umask(0o022)
    # All are forked before there is anything to inherit: no socket, no request, no result.
    gc.collect()
    gc.freeze()  # keeps the collector from copying pages that they all share
    files, zygote = Helper("files", options), Helper("zygote", options)
    if options.apart:
        procfs.keep()
    zygote.start()
    if options.apart:
        apart.give_up()  # the zygote alone uses it: what is forked from here on never had it
    files.start()
    relay = Helper("relay", options) if options.egress_port else None
    if relay is not None:
        relay.start()
        relay.await_first(BOOT_PATIENCE)
    if options.apart:
        zygote.await_first(BOOT_PATIENCE)
    loop = Loop()
    loop.catch_signals()
    files.attach(loop)
    zygote.attach(loop)
    if relay is not None:
        relay.attach(loop)
    supervisor = Supervisor(loop, options, zygote, files)
    NodeProbe(loop, options.site, supervisor.node_found)
    Server(loop, options, supervisor)
    log("info", "listening", socket=options.socket)
    loop.run()
    log("info", "stopped")
    return 0
