"""What a container of ours must be, whatever was asked for: the second opinion on `docker_spec`, read from the engine's answer.

`attest.engine_mismatches` finds what the engine made of the body; this finds what the body itself forgot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.drivers import layout, seccomp
from runtime.drivers.attest import MASKED, READ_ONLY
from runtime.drivers.docker_spec import OWN_KERNEL, capabilities

Rule = Callable[[Any], bool]


def _nothing(value: Any) -> bool:
    return not value


def _is(wanted: Any) -> Rule:
    return lambda value: value == wanted


def _positive(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _names(value: Any) -> set[str]:
    return {str(name).removeprefix("CAP_") for name in value or ()}


def _security(value: Any, own_kernel: bool) -> bool:
    options = set(value or ())
    return "no-new-privileges" in options and f"seccomp={seccomp.profile_text(own_kernel)}" in options


def _scratch(value: Any) -> bool:
    options = set(str((value or {}).get(layout.TMP, "")).split(","))
    names = {option.partition("=")[0] for option in options}
    return {"noexec", "nosuid", "nodev", "size", "nr_inodes"} <= names


def _mounts(value: Any) -> bool:
    targets = {mount.get("Target") for mount in value or ()}
    binds = all(mount.get("Type") == "bind" for mount in value or ())
    return binds and layout.RUN_DIR in targets and targets <= {layout.RUN_DIR, layout.WORKSPACE}


def _ulimits(value: Any) -> bool:
    hard = {limit["Name"]: limit["Hard"] for limit in value or ()}
    return all(hard.get(name) == 0 for name in ("core", "memlock", "msgqueue")) and 0 < hard.get("nofile", 0) <= 1024


def _log(value: Any) -> bool:
    config = (value or {}).get("Config") or {}
    return bool(config.get("max-size")) and bool(config.get("max-file"))


HOST: dict[str, Rule] = {
    "NetworkMode": _is("none"),
    "IpcMode": _is("private"),
    "PidMode": _nothing,
    "UTSMode": _nothing,
    "UsernsMode": _nothing,
    "CgroupnsMode": _is("private"),
    "Privileged": _nothing,
    "CapDrop": lambda value: _names(value) == {"ALL"},
    "ReadonlyRootfs": _is(True),
    "Tmpfs": _scratch,
    "ShmSize": lambda value: _positive(value) and value <= layout.SHM_SIZE,
    "Mounts": _mounts,
    "Memory": _positive,
    "MemorySwap": _positive,
    "OomKillDisable": _nothing,
    "OomScoreAdj": _positive,
    "CpuPeriod": _positive,
    "CpuQuota": _positive,
    "CpuShares": _is(layout.CPU_SHARES),
    "PidsLimit": _positive,
    "Ulimits": _ulimits,
    "AutoRemove": _nothing,
    "RestartPolicy": lambda value: (value or {}).get("Name") in ("", "no"),
    "LogConfig": _log,
    "MaskedPaths": lambda value: set(value or ()) >= MASKED,
    "ReadonlyPaths": lambda value: set(value or ()) >= READ_ONLY,
    "Devices": _nothing,
    "DeviceCgroupRules": _nothing,
    "DeviceRequests": _nothing,
    "Sysctls": _nothing,
    "ExtraHosts": _nothing,
    "Links": _nothing,
    "PublishAllPorts": _nothing,
    "PortBindings": _nothing,
    "VolumesFrom": _nothing,
    "Binds": _nothing,
    "CgroupParent": _nothing,
}
CONFIG: dict[str, Rule] = {
    "User": _is("0:0"),
    "WorkingDir": _is("/"),
    "Tty": _nothing,
    "OpenStdin": _nothing,
    "StopSignal": _is("SIGKILL"),
    "Healthcheck": lambda value: (value or {}).get("Test") == ["NONE"],
    "NetworkDisabled": _is(True),
    "Volumes": _nothing,
}


def mismatches(inspected: dict[str, Any]) -> list[str]:
    """The fields of a created container, as the engine tells them, that are not what they must be."""
    host, config = inspected["HostConfig"], inspected["Config"]
    found = [
        f"HostConfig.{field} must not be {host.get(field)!r}"
        for field, holds in HOST.items()
        if not holds(host.get(field))
    ]
    found += [
        f"Config.{field} must not be {config.get(field)!r}"
        for field, holds in CONFIG.items()
        if not holds(config.get(field))
    ]
    if _names(host.get("CapAdd")) != set(capabilities(host.get("Runtime", ""))):
        found.append(f"HostConfig.CapAdd must not be {host.get('CapAdd')!r}")
    if not _security(host.get("SecurityOpt"), host.get("Runtime") in OWN_KERNEL):
        found.append(f"HostConfig.SecurityOpt must not be {host.get('SecurityOpt')!r}")
    if host.get("MemorySwap") != host.get("Memory"):
        found.append("HostConfig.MemorySwap must be the memory limit: no swap")
    return [words[:200] for words in found]
