"""Arguments, and the role of this process."""

from __future__ import annotations

import argparse
import os
import sys

from executor.log import LEVELS, log, set_level


class Options(argparse.Namespace):
    """The command line; README.md describes each option."""

    socket: str
    workspace: str
    slots: int
    preload: list[str]
    user_uid: int
    site: str
    log_level: str
    allow_any_peer: bool
    warm_node: int
    figures: bool
    egress_port: int
    address_space: int
    apart: bool
    proc: int
    role: str
    fd: int

    @property
    def slot_uids(self) -> range:
        return range(self.user_uid + 1, self.user_uid + 1 + self.slots)


def _slots(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 16:
        raise argparse.ArgumentTypeError("must be 1 to 16")
    return number


def _uid(text: str) -> int:
    number = int(text)
    if not 1000 <= number <= 0x7FFFFFF0:
        raise argparse.ArgumentTypeError("must be an unprivileged uid, 1000 or more")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 1024 <= number <= 65535:
        raise argparse.ArgumentTypeError("must be 1024 to 65535")
    return number


def parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="executor", allow_abbrev=False)
    parser.add_argument("--socket", default="/run/sbx/executor.sock")
    parser.add_argument("--workspace", default="/workspace")
    parser.add_argument("--slots", type=_slots, default=4)
    parser.add_argument("--preload", type=lambda text: [name for name in text.split(",") if name], default=[])
    parser.add_argument("--user-uid", type=_uid, default=20000)
    parser.add_argument("--site", default="/opt/sandbox/site")
    parser.add_argument("--log-level", choices=sorted(LEVELS), default="info")
    parser.add_argument("--allow-any-peer", action="store_true")
    parser.add_argument("--warm-node", type=int, choices=range(5), default=0)
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--egress-port", type=_port, default=0)
    parser.add_argument("--address-space", type=int, default=0)
    parser.add_argument("--apart", action="store_true")
    # How PID 1 starts a replacement for a helper that died; of no use by hand.
    parser.add_argument("--role", choices=("main", "zygote", "files", "relay"), default="main", help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--proc", type=int, default=-1, help=argparse.SUPPRESS)
    return parser.parse_args(arguments, namespace=Options())


def main() -> int:
    options = parse(sys.argv[1:])
    set_level(options.log_level)
    if options.role != "main":
        from executor import helper, procfs

        if options.proc >= 0:
            procfs.keep(options.proc)
        return helper.serve_role(options.role, options, options.fd)
    if os.getpid() != 1:
        log("error", "not_pid_1", hint="the executor ends runs by kill(-1): start it in a pid namespace of its own")
        return 2
    if not os.path.isdir(options.workspace):
        log("error", "no_workspace", path=options.workspace)
        return 2
    from executor import apart, boot

    if options.apart and not apart.is_gvisor():
        # What it takes is harmless in that kernel alone. It is given up with this process.
        log("error", "not_gvisor", hint="--apart is for gVisor: the runtime of that name is another")
        return 2
    return boot.run(options)
