"""The system calls that a sandbox may make: one allow-list, `seccomp.json` in Docker's format, for all drivers.

What is unknown answers ENOSYS, so that programs fall back; what is refused on purpose answers EPERM.
"""

from __future__ import annotations

import json
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

PROFILE = Path(__file__).with_name("seccomp.json")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Names of the machines that the profile knows, by Linux and as Docker calls them."""


@cache
def profile_text() -> str:
    """The profile as compact JSON: what the Engine API takes inline."""
    return json.dumps(json.loads(PROFILE.read_text()), separators=(",", ":"))


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
