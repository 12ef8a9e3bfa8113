"""SandboxSpec -> the whole body of `POST /containers/create`. Pure, and every field of it is held by a test.

The engine ignores what it does not know (a `User` inside HostConfig would mean root with everything), so `attest.py`
compares its answer with this afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.drivers import layout, seccomp, workspace
from runtime.drivers.state import SandboxFolder
from runtime.drivers.types import MIB, Resources, SandboxSpec

OWN_KERNEL = frozenset({"runsc"})
"""OCI runtimes that put a kernel of their own between: the executor can't tell its peers apart there, and limits can't be changed."""
KERNEL_TASKS, TASKS_EACH = 512, 24
"""What such a kernel takes of the host's tasks: for itself, and for each process of the sandbox (measured: 65, and 7 to 15). Where
it gets none, it gives up, and the sandbox with it: a fork bomb must end at the limit inside, long before this one."""
KERNEL_MEMORY, MEMORY_EACH = 96 * MIB, 10 * MIB
"""What it takes of the memory limit: with the executor (measured: 45 MiB when idle), and for each process (measured: 6 to 8)."""


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
    entrypoint = layout.executor_command(spec, allow_any_peer=spec.oci_runtime in OWN_KERNEL)
    if spec.oci_runtime in OWN_KERNEL:
        # Beyond the host's limit all of the sandbox ends, kernel and executor: a run is stopped before, inside.
        entrypoint += ["--address-space", str(_address_space(spec.resources))]
        # That kernel lets everybody look at every process in /proc: runs get one that does not know the executor.
        entrypoint.append("--apart")
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
        "CapAdd": list(capabilities(spec.oci_runtime)),
        "SecurityOpt": _security_options(facts, spec.oci_runtime in OWN_KERNEL),
        "ReadonlyRootfs": True,
        "Tmpfs": tmpfs,
        "ShmSize": layout.SHM_SIZE,
        "Mounts": mounts,
        "OomKillDisable": False,
        "OomScoreAdj": 500,
        **changeable(resources),
        "CpuShares": layout.CPU_SHARES,
        "PidsLimit": host_tasks(spec),
        "Ulimits": _ulimits(spec),
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


def capabilities(oci_runtime: str) -> tuple[str, ...]:
    """Of the executor at its start. What gVisor's gets beyond the others' counts in that kernel alone, and is given up at once."""
    return layout.CAPABILITIES + (layout.BORROWED if oci_runtime in OWN_KERNEL else ())


def host_tasks(spec: SandboxSpec) -> int:
    """Of the host's cgroup. With a kernel of its own the sandbox's processes are counted there, by `nproc`."""
    if spec.oci_runtime in OWN_KERNEL:
        return KERNEL_TASKS + TASKS_EACH * _processes(spec.resources)
    return spec.resources.pids


def _ulimits(spec: SandboxSpec) -> list[dict[str, Any]]:
    limits = [_ulimit("nofile", 1024), _ulimit("core", 0), _ulimit("memlock", 0), _ulimit("msgqueue", 0)]
    # On the host's kernel it would count the uid's processes in all sandboxes.
    return [*limits, _ulimit("nproc", _processes(spec.resources))] if spec.oci_runtime in OWN_KERNEL else limits


def _processes(resources: Resources) -> int:
    """As many as its memory carries: beyond that limit the sandbox ends, at this one a fork is refused."""
    return min(resources.pids, max(16, (resources.memory - KERNEL_MEMORY) // MEMORY_EACH))


def _address_space(resources: Resources) -> int:
    """Bytes that one run may map beyond what its interpreter has: with its kernel's share it stays below the limit."""
    return max(min(resources.memory - KERNEL_MEMORY, resources.memory * 3 // 4), resources.memory // 2)


def _security_options(facts: HostFacts, own_kernel: bool) -> list[str]:
    options = ["no-new-privileges", f"seccomp={seccomp.profile_text(own_kernel)}"]
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
