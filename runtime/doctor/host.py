"""What the kernel and the system of this host give. `root` stands for / in tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from runtime.doctor.findings import Finding, ok, problem, weak
from runtime.drivers import seccomp, workspace
from runtime.drivers.cgroups import CgroupsV1, CgroupsV2
from runtime.drivers.errors import DriverError
from runtime.drivers.state import StateFolder
from runtime.egress import squid

TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"
ROOT = Path("/")


def check_cgroups(root: Path = ROOT) -> list[Finding]:
    """Version, controllers, and whether swap is limited too."""
    tree = root / "sys/fs/cgroup"
    if (tree / "cgroup.controllers").exists():
        there = _text(tree / "cgroup.controllers").split()
        missing = [name for name in CgroupsV2.CONTROLLERS if name not in there]
        version = "version 2"
    else:
        missing = [name for name in CgroupsV1.CONTROLLERS if not (tree / name / "cgroup.procs").exists()]
        version = "version 1"
    if missing:
        words = f"{version} lacks {', '.join(missing)}: those limits can't be kept."
        return [problem("cgroups", words, "Enable the controllers (kernel command line: cgroup_enable=memory).")]
    found = [ok("cgroups", f"{version}: cpu, memory and processes of each sandbox are limited.")]
    return [*found, _swap(root, tree, version)]


def _swap(root: Path, tree: Path, version: str) -> Finding:
    if len(_text(root / "proc/swaps").splitlines()) <= 1:
        return ok("swap", "This host has none: the memory limit is the whole limit.")
    if version == "version 2" or (tree / "memory/memory.memsw.limit_in_bytes").exists():
        return ok("swap", "Counts towards the memory limit.")
    return weak(
        "swap",
        "The kernel does not account for swap: a sandbox may swap beyond its memory limit.",
        "Boot with swapaccount=1, or turn swap off.",
    )


def check_seccomp(runtime_type: str, root: Path = ROOT) -> Finding:
    """The kernel's filters, and the library that compiles our allow-list for bubblewrap."""
    actions = _text(root / "proc/sys/kernel/seccomp/actions_avail").split()
    if "errno" not in actions:
        return problem("seccomp", "The kernel can't filter system calls.", "Use one with CONFIG_SECCOMP_FILTER.")
    if runtime_type == "bubblewrap":
        try:
            seccomp.compiled()
        except (OSError, ImportError, RuntimeError) as error:
            return problem("seccomp", f"libseccomp can't be used: {error}", "apt-get install libseccomp2")
    return ok("seccomp", "Every system call goes through our allow-list; unknown ones answer ENOSYS.")


def check_workspaces(state_dir: Path, root: Path = ROOT) -> list[Finding]:
    """How the disk limit is kept. Mounts a small image, as the drivers do."""
    lacking = []
    if "ext4" not in _text(root / "proc/filesystems").split():
        lacking.append("the kernel has no ext4 (modprobe ext4)")
    if shutil.which("mkfs.ext4", path=TOOLS) is None:
        lacking.append("mkfs.ext4 is missing (apt-get install e2fsprogs)")
    if not (root / "dev/loop-control").exists():
        lacking.append("there is no /dev/loop-control (modprobe loop)")
    if os.geteuid() != 0:
        lacking.append("the control plane is not root")
    mend = "; ".join(lacking) + "." if lacking else "Give it CAP_SYS_ADMIN and loop devices."
    try:
        mounts = not lacking and workspace.can_mount(StateFolder(state_dir.absolute(), ""))
    except DriverError as error:
        return [problem("workspace disks", f"An image can't be mounted now: {error}", "Try again; make room.")]
    if not mounts:
        words = "Images can't be mounted: a workspace is a tmpfs, in memory, of at most half the memory limit."
        return [weak("workspace disks", words, mend[0].upper() + mend[1:])]
    return [ok("workspace disks", "An ext4 image for each: bytes and inodes are limited exactly."), _loops(root)]


def _loops(root: Path) -> Finding:
    most = _text(root / "sys/module/loop/parameters/max_loop").strip() or "0"
    used = sum((entry / "loop").is_dir() for entry in (root / "sys/block").glob("loop*"))
    return ok("loop devices", f"{used} in use; more are made as they are needed (made at the start: {most}).")


def check_user_namespaces(root: Path = ROOT) -> Finding:
    """Sandboxes can't make any (seccomp); on the host they are attack surface for others."""
    most = _text(root / "proc/sys/user/max_user_namespaces").strip()
    unprivileged = _text(root / "proc/sys/kernel/unprivileged_userns_clone").strip()
    if most == "0" or unprivileged == "0":
        return ok("user namespaces", "Off for users of this host; sandboxes can't make any.")
    return ok("user namespaces", "On for users of this host; sandboxes can't make any: their filter refuses it.")


def check_apparmor(engine_has_it: bool | None, root: Path = ROOT) -> Finding:
    """A second wall behind the others. `engine_has_it` is None where there is no engine."""
    enabled = _text(root / "sys/module/apparmor/parameters/enabled").strip() == "Y"
    if enabled and engine_has_it:
        return ok("AppArmor", "Containers run under docker-default.")
    if enabled and engine_has_it is None:
        return weak("AppArmor", "On, but bubblewrap sandboxes have no profile of their own.", "Use Docker for it.")
    words = "The engine does not use it." if enabled else "Not enabled in this kernel: a wall less behind the others."
    return weak("AppArmor", words, "Boot with apparmor=1 security=apparmor, install apparmor, restart the engine.")


def check_core_dumps(root: Path = ROOT) -> Finding:
    """A sandbox's own limit is 0; a handler behind a pipe is asked all the same."""
    pattern = _text(root / "proc/sys/kernel/core_pattern").strip()
    if pattern.startswith("|"):
        words = f"Crashes are piped to a program of this host ({pattern[1:40]}), whatever limit a sandbox has."
        return weak("core dumps", words, "sysctl kernel.core_pattern=core")
    return ok("core dumps", "None are written for sandboxes.")


def check_egress() -> Finding:
    """The proxy that sandboxes with a list of hosts need; without it no template can have one."""
    program = squid.program()
    if program is None:
        words = "squid is not installed: sandboxes have no network, as by default, and no template can let them reach hosts."
        return weak(
            "egress", words, "apt-get install squid, start the service again. Debian's own squid.service is not needed."
        )
    if not squid.TEMPLATES.is_dir():
        return weak("egress", f"{squid.TEMPLATES} is missing: squid would not start.", "apt-get install squid-common")
    return ok(
        "egress", f"{program}: templates may allow hosts by name; private addresses and this host's own are refused."
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
