"""The system calls that a sandbox may make: one allow-list, `seccomp.json` in Docker's format, for all drivers.

What is unknown answers ENOSYS, so that programs fall back; what is refused on purpose answers EPERM.
"""

from __future__ import annotations

import json
import os
import platform
import stat
from functools import cache
from pathlib import Path
from typing import Any

PROFILE = Path(__file__).with_name("seccomp.json")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Names of the machines that the profile knows, by Linux and as Docker calls them."""
FILE_TYPE = 0o170000
"""The bits of a mode that say what kind of file it is."""

CLONE_NEWPID = 0x20000000
PLAIN_MOUNT = 0xE
"""MS_NOSUID, MS_NODEV and MS_NOEXEC."""


@cache
def profile_text(own_kernel: bool = False) -> str:
    """The profile as compact JSON: what the Engine API takes inline. `own_kernel`: the one for gVisor, see `_for_gvisor`."""
    profile = json.loads(PROFILE.read_text())
    return json.dumps(_for_gvisor(profile) if own_kernel else profile, separators=(",", ":"))


def _for_gvisor(profile: dict[str, Any]) -> dict[str, Any]:
    """With what its kernel does not refuse by itself, as the host's does.

    - It knows one answer to what is refused, EPERM, but programs start threads by another call only where clone3 answers ENOSYS.
      So clone3 is left to its kernel, which has none, or one whose namespaces are not the host's.
    - A pid namespace, and mounts of one kind, are what the executor makes for runs before it gives up the right to. What forks runs
      refuses these calls from then on, to itself and to them.
    - Priorities and cores are a process's own business alone, and no device files are made.
    """
    first, *others = profile["syscalls"]
    moved = {"setpriority", "sched_setaffinity", "mknod", "mknodat"}
    allowed = [{**first, "names": [*(name for name in first["names"] if name not in moved), "clone3"]}]
    allowed += [_allowed("setpriority", 1, 0), _allowed("sched_setaffinity", 0, 0)]
    for kind in (0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
        allowed += [_allowed("mknod", 1, kind, FILE_TYPE), _allowed("mknodat", 2, kind, FILE_TYPE)]
    allowed += [_allowed("unshare", 0, CLONE_NEWPID), _allowed("mount", 3, PLAIN_MOUNT)]
    left = {"clone3", "unshare", "mount"}
    others = [{**rule, "names": [name for name in rule["names"] if name not in left]} for rule in others]
    return {**profile, "syscalls": allowed + others}


def _allowed(name: str, index: int, value: int, mask: int = 0) -> dict[str, Any]:
    """That call where its argument is so, under `mask` if there is one."""
    if mask:
        argument = {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
    else:
        argument = {"index": index, "value": value, "valueTwo": 0, "op": "SCMP_CMP_EQ"}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}


@cache
def compiled() -> bytes:
    """The same profile as the BPF program that bubblewrap loads. Raises `OSError` where libseccomp is missing."""
    import pyseccomp  # Here, since importing it loads libseccomp, which only this driver's hosts need to have.

    profile = json.loads(profile_text())
    default = pyseccomp.ERRNO(profile["defaultErrnoRet"])
    found = pyseccomp.SyscallFilter(default)
    for rule in profile["syscalls"]:
        if not _applies(rule):
            continue
        action = pyseccomp.ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else pyseccomp.ERRNO(rule["errnoRet"])
        if action == default:
            continue  # libseccomp refuses a rule that changes nothing.
        arguments = [_argument(pyseccomp, item) for item in rule.get("args", [])]
        for name in rule["names"]:
            # A call that this libseccomp does not know can't be allowed by name: it stays with the default.
            if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0:
                found.add_rule(action, name, *arguments)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as program, os.fdopen(writing, "wb") as target:
        found.export_bpf(target)
        target.close()
        return program.read()


def _applies(rule: dict[str, Any]) -> bool:
    wanted = rule.get("includes", {}).get("arches")
    return wanted is None or ARCHITECTURES.get(platform.machine()) in wanted


def _argument(library: Any, item: dict[str, Any]) -> Any:
    operation = {"SCMP_CMP_EQ": library.EQ, "SCMP_CMP_GT": library.GT, "SCMP_CMP_MASKED_EQ": library.MASKED_EQ}
    return library.Arg(item["index"], operation[item["op"]], item["value"], item["valueTwo"])
