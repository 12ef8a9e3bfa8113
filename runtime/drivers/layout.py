"""What a sandbox looks like from inside, the same for every driver: paths, sizes, and how the executor is started."""

from __future__ import annotations

from runtime.drivers.types import MIB, Resources, SandboxSpec

RUN_DIR = "/run/sbx"
SOCKET = f"{RUN_DIR}/executor.sock"
EGRESS_PORT = 3128
"""Of the loopback inside: where the HTTP proxy seems to be."""
WORKSPACE = "/workspace"
TMP = "/tmp"  # noqa: S108 (inside the sandbox)
SANDBOX_DIR = "/opt/sandbox"
NODE_MODULES = ("/node_modules", f"{SANDBOX_DIR}/site/node_modules")
"""A link in / and where it points: node looks for packages in the node_modules of every folder above the code, / at last."""
HOSTNAME = "sandbox"
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
"""Of the executor. Nothing of ours, nothing secret."""
CAPABILITIES = ("SETUID", "SETGID", "KILL")
"""All that root has inside: becoming a user, and ending what users started."""
CAPABILITY_BITS = 0xE0
BORROWED = ("SYS_ADMIN", "SETPCAP")
"""Beside these at the start alone, and only with a kernel of the sandbox's own: the executor makes a pid namespace and a /proc for
runs, and gives them up before it serves anybody."""
SHM_SIZE = 16 * MIB
TMP_INODES = 16 * 1024
CPU_PERIOD = 100_000
"""Microseconds."""
CPU_SHARES = 256
LABEL_MANAGED = "sbx.managed"
LABEL_INSTANCE = "sbx.instance"
LABEL_NAME = "sbx.name"


def executor_command(spec: SandboxSpec, allow_any_peer: bool = False) -> list[str]:
    """The command that is PID 1 of the sandbox."""
    command = ["python3", "-I", f"{SANDBOX_DIR}/executor", "--socket", SOCKET]
    command += ["--workspace", WORKSPACE, "--slots", str(spec.slots)]
    if spec.preload:
        command += ["--preload", ",".join(spec.preload)]
    if spec.figures:
        command.append("--figures")
    if spec.egress:
        command += ["--egress-port", str(EGRESS_PORT)]
    if allow_any_peer:
        command.append("--allow-any-peer")
    return command


def tmp_size(resources: Resources) -> int:
    """Bytes of /tmp. It counts as the sandbox's memory, so it takes no more than a quarter of that."""
    return min(64 * MIB, resources.memory // 4)


def cpu_quota(resources: Resources) -> int:
    """Microseconds of CPU time in each period."""
    return max(1000, round(resources.cpu * CPU_PERIOD))


def labels(spec: SandboxSpec, instance: str) -> dict[str, str]:
    """The caller's labels and ours, which win."""
    return {**spec.labels, LABEL_MANAGED: "1", LABEL_INSTANCE: instance, LABEL_NAME: spec.name}
