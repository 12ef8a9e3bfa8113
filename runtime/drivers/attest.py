"""Compares what came up with what was asked for. Pure: each function gives the differences in words, `[]` for none.

Two witnesses: the engine's answer to inspect, and the executor's report of itself from inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.drivers import layout
from runtime.drivers.executor_client.health import Mount, SelfReport

CONFIG_FIELDS = ("User", "Entrypoint", "Cmd", "WorkingDir", "Hostname", "Tty", "OpenStdin", "AttachStdin", "StopSignal")
HOST_FIELDS = (
    "NetworkMode", "IpcMode", "PidMode", "UTSMode", "UsernsMode", "Privileged", "CapDrop", "CapAdd", "SecurityOpt",
    "ReadonlyRootfs", "Tmpfs", "ShmSize", "Mounts", "Memory", "MemorySwap", "OomKillDisable", "OomScoreAdj",
    "CpuPeriod", "CpuQuota", "CpuShares", "PidsLimit", "Ulimits", "Init", "AutoRemove", "RestartPolicy", "LogConfig",
    "Devices", "DeviceCgroupRules", "DeviceRequests", "GroupAdd", "Sysctls", "ExtraHosts", "Dns", "Links",
    "PublishAllPorts", "PortBindings", "VolumesFrom", "Binds", "CgroupParent", "CgroupnsMode", "Runtime",
)  # fmt: skip
MASKED = frozenset({"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"})
READ_ONLY = frozenset({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})
SECCOMP_FILTER = 2
SYSTEM_MOUNTS = ("/proc", "/sys", "/dev")


@dataclass(frozen=True)
class Expectation:
    """What the executor should see.

    `mounts` are the targets that may be there, with all below them, besides the system's own and the sandbox's.
    `gvisor`: its kernel shows neither no-new-privileges nor the types and most options of mounts, so these are not asked
    for (runsc applies the options itself: each sandbox has a kernel of its own). It shows every process to everybody, so the executor
    must be in no /proc that runs can see; elsewhere its entries there are refused.
    """

    workspace_type: str
    groups: frozenset[int]
    mounts: tuple[str, ...]
    gvisor: bool = False


def engine_mismatches(body: dict[str, Any], inspected: dict[str, Any]) -> list[str]:
    """The differences between the body of a create and what inspect then says, over a closed list of fields."""
    found = []
    for section, fields in (("Config", CONFIG_FIELDS), ("HostConfig", HOST_FIELDS)):
        wanted_section = body if section == "Config" else body[section]
        for field in fields:
            wanted, got = wanted_section.get(field), inspected[section].get(field)
            if _normal(field, wanted) != _normal(field, got):
                found.append(f"{section}.{field}")
    if not set(body["Env"]) <= set(inspected["Config"].get("Env") or ()):
        found.append("Config.Env")
    labels = inspected["Config"].get("Labels") or {}
    if any(labels.get(key) != value for key, value in body["Labels"].items()):
        found.append("Config.Labels")
    for field, least in (("MaskedPaths", MASKED), ("ReadonlyPaths", READ_ONLY)):
        listed = inspected["HostConfig"].get(field)
        if listed is not None and not least <= set(listed):
            found.append(f"HostConfig.{field}")
    return found


def _normal(field: str, value: Any) -> Any:
    """Engines write "nothing" as null, false, 0, "" or an empty list, and capabilities with and without CAP_."""
    if field in ("CapAdd", "CapDrop"):
        return sorted(str(name).removeprefix("CAP_") for name in value or ())
    if isinstance(value, dict):
        return {key: _normal("", item) for key, item in value.items() if _normal("", item) is not None} or None
    if isinstance(value, list):
        return [_normal("", item) for item in value] or None
    return value or None


def executor_mismatches(report: SelfReport, expected: Expectation) -> list[str]:
    """The differences between the executor's report of itself and what a sandbox must be."""
    bits = layout.CAPABILITY_BITS
    checks = {
        f"pid {report.pid}": report.pid == 1,
        f"uid {report.uid}": report.uid == 0,
        f"groups {sorted(report.groups)}": set(report.groups) <= expected.groups,
        f"effective capabilities {report.cap_eff:x}": report.cap_eff == bits,
        f"permitted capabilities {report.cap_prm:x}": report.cap_prm == bits,
        f"bounding capabilities {report.cap_bnd:x}": report.cap_bnd == bits,
        "privileges can be gained": report.no_new_privs == 1 or expected.gvisor,
        f"seccomp mode {report.seccomp}": report.seccomp == SECCOMP_FILTER,
        "the root file system can be written": _root_is_read_only(report, expected.gvisor),
        "runs can see the executor in /proc": report.apart or not expected.gvisor,
        f"interfaces {list(report.interfaces)}": set(report.interfaces) <= {"lo"},
    }
    return [words for words, holds in checks.items() if not holds] + _mount_mismatches(report.mounts, expected)


def _mount_mismatches(mounts: tuple[Mount, ...], expected: Expectation) -> list[str]:
    # Of two mounts at one place the later one is seen.
    seen = {mount.target: mount for mount in mounts}
    workspace_type = None if expected.gvisor else expected.workspace_type
    tmpfs = None if expected.gvisor else "tmpfs"
    plain = {"rw"} if expected.gvisor else {"rw", "nosuid", "nodev"}
    found = [
        *_wrong_mount(seen.get(layout.WORKSPACE), layout.WORKSPACE, workspace_type, plain),
        *_wrong_mount(seen.get(layout.TMP), layout.TMP, tmpfs, plain | {"noexec"}),
        *_wrong_mount(seen.get(layout.RUN_DIR), layout.RUN_DIR, None, set()),
    ]
    required = {"/", layout.WORKSPACE, layout.TMP, layout.RUN_DIR}
    allowed = (*SYSTEM_MOUNTS, *expected.mounts)
    for target in seen:
        if target not in required and not any(target == root or target.startswith(root + "/") for root in allowed):
            found.append(f"an unexpected mount at {target}")
    return found


def _wrong_mount(mount: Mount | None, target: str, kind: str | None, options: set[str]) -> list[str]:
    if mount is None:
        return [f"no mount at {target}"]
    if kind is not None and mount.type != kind:
        return [f"{target} is {mount.type}, not {kind}"]
    if not options <= set(mount.options):
        return [f"{target} is not mounted {', '.join(sorted(options - set(mount.options)))}"]
    return []


def _root_is_read_only(report: SelfReport, gvisor: bool) -> bool:
    # gVisor's statvfs does not say it, its mount table does.
    listed = any(mount.target == "/" and "ro" in mount.options for mount in report.mounts)
    return listed if gvisor else report.rootfs_read_only


def isolation(report: SelfReport, driver: str, runtime: str, gvisor: bool = False) -> dict[str, Any]:
    """What was attested, for display; null where the sandbox's kernel does not show it.

    Only ever shown after both comparisons found nothing.
    """
    return {
        "driver": driver,
        "runtime": runtime,
        "kernel": "gvisor" if gvisor else "host",
        "executor_uid": report.uid,
        "user_uid": report.user_uid,
        "capabilities": list(layout.CAPABILITIES),
        "no_new_privileges": None if gvisor else report.no_new_privs == 1,
        "seccomp": "filter",
        "root_filesystem": "read-only",
        "network": "none",
        "interfaces": list(report.interfaces),
    }
