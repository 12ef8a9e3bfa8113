"""SandboxSpec -> the whole body of `POST /containers/create`. Pure, and every field of it is held by a test.

The engine ignores what it does not know (a `User` inside HostConfig would mean root with everything), so `attest.py`
compares its answer with this afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.drivers import layout, seccomp, workspace
from runtime.drivers.state import SandboxFolder
from runtime.drivers.types import Resources, SandboxSpec

PEERS_UNKNOWN = frozenset({"runsc"})
"""OCI runtimes under which the executor can't tell its peers apart."""


@dataclass(frozen=True)
class HostFacts:
    """What the body depends on beside the spec: our group, whether we mount the workspace, what the engine has."""

    instance: str
    gid: int
    mounts_workspace: bool
    apparmor: bool


def changeable(resources: Resources) -> dict[str, int]:
    """The fields of HostConfig that a running container can be given anew."""
    return {
        "CpuPeriod": layout.CPU_PERIOD,
        "CpuQuota": layout.cpu_quota(resources),
        "Memory": resources.memory,
        "MemorySwap": resources.memory,
    }


def container_body(spec: SandboxSpec, folder: SandboxFolder, facts: HostFacts) -> dict[str, Any]:
    """The body, complete: nothing is left to the engine's defaults that matters."""
    entrypoint = layout.executor_command(spec, allow_any_peer=spec.oci_runtime in PEERS_UNKNOWN)
    return {
        "Image": spec.image,
        "User": "0:0",
        "Entrypoint": entrypoint,
        "Cmd": [],
        "WorkingDir": "/",
        "Env": [f"{name}={value}" for name, value in layout.ENVIRONMENT.items()],
        "Hostname": layout.HOSTNAME,
        "Domainname": "",
        "NetworkDisabled": True,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StopSignal": "SIGKILL",
        "StopTimeout": 0,
        "Healthcheck": {"Test": ["NONE"]},
        "Volumes": {},
        "ExposedPorts": {},
        "Labels": layout.labels(spec, facts.instance),
        "HostConfig": _host_config(spec, folder, facts),
    }


def _host_config(spec: SandboxSpec, folder: SandboxFolder, facts: HostFacts) -> dict[str, Any]:
    resources = spec.resources
    tmp = f"rw,noexec,nosuid,nodev,size={layout.tmp_size(resources)},nr_inodes={layout.TMP_INODES},mode=1777"
    tmpfs = {layout.TMP: tmp}
    mounts = [_bind(str(folder.sock), layout.RUN_DIR)]
    if facts.mounts_workspace:
        mounts.append(_bind(str(folder.workspace), layout.WORKSPACE))
    else:
        user = workspace.USER
        tmpfs[layout.WORKSPACE] = (
            f"rw,exec,nosuid,nodev,size={workspace.tmpfs_size(resources)},nr_inodes={resources.inodes},"
            f"uid={user},gid={user},mode={workspace.MODE:o}"
        )
    return {
        "NetworkMode": "none",
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "CgroupnsMode": "private",
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(layout.CAPABILITIES),
        "SecurityOpt": _security_options(facts),
        "ReadonlyRootfs": True,
        "Tmpfs": tmpfs,
        "ShmSize": layout.SHM_SIZE,
        "Mounts": mounts,
        "OomKillDisable": False,
        "OomScoreAdj": 500,
        **changeable(resources),
        "CpuShares": layout.CPU_SHARES,
        "PidsLimit": resources.pids,
        "Ulimits": [_ulimit("nofile", 1024), _ulimit("core", 0), _ulimit("memlock", 0), _ulimit("msgqueue", 0)],
        "Init": False,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        # null means the engine's own lists; an empty list would unmask everything.
        "MaskedPaths": None,
        "ReadonlyPaths": None,
        "Devices": [],
        "DeviceCgroupRules": [],
        "DeviceRequests": [],
        "GroupAdd": [str(facts.gid)],
        "Sysctls": {},
        "ExtraHosts": [],
        "Dns": [],
        "Links": [],
        "PublishAllPorts": False,
        "PortBindings": {},
        "VolumesFrom": [],
        "Binds": [],
        "CgroupParent": "",
        "Runtime": spec.oci_runtime,
    }


def _security_options(facts: HostFacts) -> list[str]:
    options = ["no-new-privileges", f"seccomp={seccomp.profile_text()}"]
    return [*options, "apparmor=docker-default"] if facts.apparmor else options


def _bind(source: str, target: str) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": False,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _ulimit(name: str, value: int) -> dict[str, Any]:
    return {"Name": name, "Soft": value, "Hard": value}
