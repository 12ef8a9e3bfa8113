"""What this sandbox is, as seen from inside: for the control plane to compare with what it asked for."""

from __future__ import annotations

import os
import re
import socket
from typing import Any


def attest(user_uid: int) -> dict[str, Any]:
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "user_uid": user_uid,
        "cap_eff": status.get("CapEff", ""),
        "cap_prm": status.get("CapPrm", ""),
        "cap_bnd": status.get("CapBnd", ""),
        "no_new_privs": int(status.get("NoNewPrivs", 0)),
        "seccomp": int(status.get("Seccomp", 0)),
        "rootfs_read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "mounts": _mounts(),
    }


def _mounts() -> list[dict[str, Any]]:
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            target, options = before.split()[4:6]
            target = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), target)
            found.append({"target": target, "type": after.split()[0], "options": options.split(",")})
    return found
