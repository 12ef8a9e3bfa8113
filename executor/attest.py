"""What this sandbox is, as seen from inside: for the control plane to compare with what it asked for."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

from executor import procfs
from executor.apart import is_apart


def attest(user_uid: int) -> dict[str, Any]:
    lines = procfs.read("self/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
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
        "apart": is_apart(),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "mounts": _mounts(),
    }


def _mounts() -> list[dict[str, Any]]:
    found = []
    for line in procfs.read("self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        target, options = before.split()[4:6]
        target = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), target)
        found.append({"target": target, "type": after.split()[0], "options": options.split(",")})
    return found
