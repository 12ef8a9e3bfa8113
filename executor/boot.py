"""From a fresh PID 1 to a serving one."""

from __future__ import annotations

import os

from executor.cli import Options
from executor.helper import Helper
from executor.linux import PR_SET_DUMPABLE, prctl
from executor.log import log
from executor.loop import Loop
from executor.server import Server
from executor.supervisor import Supervisor


def run(options: Options) -> int:
    prctl(PR_SET_DUMPABLE, 0)
    os.chdir("/")
    os.umask(0o022)
    # Both are forked before there is anything to inherit: no socket, no request, no result.
    files, zygote = Helper("files", options), Helper("zygote", options)
    files.start()
    zygote.start()
    loop = Loop()
    loop.catch_signals()
    files.attach(loop)
    zygote.attach(loop)
    Server(loop, options, Supervisor(loop, options, zygote, files))
    log("info", "listening", socket=options.socket)
    loop.run()
    log("info", "stopped")
    return 0
