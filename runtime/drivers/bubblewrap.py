"""Sandboxes in namespaces made by bubblewrap, without an engine: each owns its processes, cgroup, mounts and folder.

A sandbox is started detached, so that it outlives whoever made it, and is found again by the pid and start time in its
folder. There is no daemon to ask: the kernel and the state folder are the truth.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.drivers import attest, bubblewrap_spec, cgroups, layout, mounts, seccomp, workspace
from runtime.drivers.boot import wait_until_ready
from runtime.drivers.errors import (
    AttestationFailed,
    BootFailed,
    EngineUnavailable,
    ImageUnavailable,
    RuntimeUnsupported,
    SandboxNotFound,
    os_errors,
)
from runtime.drivers.executor_client import Health
from runtime.drivers.logfile import read_log, trim_log
from runtime.drivers.state import SandboxFolder, StateFolder, check_instance
from runtime.drivers.types import Resources, Sandbox, SandboxSpec, SandboxState, SandboxStats

LAUNCH_TIMEOUT = 10.0
REMOVE_TIMEOUT = 40.0
"""Seconds that another process may hold a sandbox's lock before a removal gives up."""
KILLED = 137
OUTER_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
# Joins the cgroups that are its first arguments, up to "--", and leaves the rest running in a session of its own.
LAUNCHER = """
echo 500 > /proc/self/oom_score_adj
while [ "$1" != -- ]; do echo 0 > "$1" || exit 1; shift; done
shift
exec setsid --fork "$@"
"""
LIMITS = ("prlimit", "--nofile=1024:1024", "--core=0:0", "--memlock=0:0", "--msgqueue=0:0")


class BubblewrapDriver:
    """Keeps `base.Driver` with bubblewrap. Needs root."""

    name = "bubblewrap"

    def __init__(self, instance: str, state_dir: Path) -> None:
        self._instance = check_instance(instance)
        self._state = StateFolder(state_dir.absolute(), f"bubblewrap/{instance}")
        self._cgroups = cgroups.detect()

    # The verbs, and the check

    def check(self) -> None:
        if os.geteuid() != 0:
            raise RuntimeUnsupported("The bubblewrap runtime needs root: run the control plane as root, or use Docker.")
        for tool in ("bwrap", "setsid", "prlimit", "setpriv", "mkfs.ext4"):
            if shutil.which(tool, path=OUTER_ENVIRONMENT["PATH"]) is None:
                raise RuntimeUnsupported(f"{tool} is missing: apt-get install bubblewrap util-linux e2fsprogs")
        try:
            seccomp.compiled()
        except (OSError, ImportError, RuntimeError) as error:
            raise RuntimeUnsupported("libseccomp is missing: apt-get install libseccomp2") from error
        with os_errors():
            self._cgroups.check()
        trial = ["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "--unshare-net", "--proc", "/proc", "true"]
        try:
            done = subprocess.run(trial, env=OUTER_ENVIRONMENT, capture_output=True, text=True, timeout=LAUNCH_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineUnavailable(f"bwrap could not be tried: {error}") from error
        if done.returncode != 0:
            raise RuntimeUnsupported(f"bwrap can't make namespaces here (CAP_SYS_ADMIN?): {done.stderr.strip()}")

    def create(self, spec: SandboxSpec) -> Sandbox:
        if os.geteuid() != 0:
            self.check()
        if spec.oci_runtime != "runc":
            raise RuntimeUnsupported(f"{spec.oci_runtime!r} needs the Docker runtime.")
        if not Path(spec.image, "executor").is_dir():
            raise ImageUnavailable(f"no executor in {spec.image}: build the images with `manage.py build_images`.")
        end = time.monotonic() + spec.boot_timeout
        folder = self._state.folder(spec.name)
        with os_errors(), self._state.lock(spec.name, spec.boot_timeout + REMOVE_TIMEOUT):
            meta = folder.read_meta()
            if meta is not None and self._runs(meta):
                return self._sandbox(folder, meta)
            self._clear(folder)
            try:
                return self._create(spec, folder, end)
            except BaseException:
                self._clear(folder)
                raise

    def update(self, name: str, resources: Resources) -> None:
        with os_errors(), self._state.lock(name, REMOVE_TIMEOUT):
            if self.inspect(name).state is not SandboxState.RUNNING:
                raise SandboxNotFound(f"no running sandbox {name}")
            self._cgroups.update(self._group(name), resources)

    def inspect(self, name: str) -> Sandbox:
        folder = self._state.folder(name)
        meta = folder.read_meta()
        if not self._state.owns(folder) or (meta is None and not folder.path.exists()):
            raise SandboxNotFound(f"no sandbox {name}")
        return self._sandbox(folder, meta or {})

    def remove(self, name: str) -> None:
        folder = self._state.folder(name)
        with os_errors(), self._state.lock(name, REMOVE_TIMEOUT):
            self._clear(folder)

    def list(self) -> list[Sandbox]:
        self._state.sweep_locks()
        folders = {folder.name: folder for folder in self._state.folders()}
        found = []
        for folder in folders.values():
            meta = folder.read_meta()
            if folder.path.exists():
                trim_log(folder.log)
                found.append(self._sandbox(folder, meta or {}, listed=True))
        # A cgroup whose folder is gone is a remainder too.
        prefix = f"{self._instance}."
        names = {name.removeprefix(prefix) for name in self._cgroups.names() if name.startswith(prefix)}
        return found + [self._state.remainder(self._state.folder(name)) for name in sorted(names - set(folders))]

    def logs(self, name: str, tail: int = 100, since: dt.datetime | None = None) -> str:
        sandbox = self.inspect(name)
        return read_log(self._state.folder(name).log, tail, since, sandbox.created_at)

    def stats(self, name: str) -> SandboxStats:
        if self.inspect(name).state is not SandboxState.RUNNING:
            raise SandboxNotFound(f"no running sandbox {name}")
        try:
            return self._cgroups.stats(self._group(name))
        except FileNotFoundError as error:
            raise SandboxNotFound(f"no running sandbox {name}") from error

    # Steps

    def _create(self, spec: SandboxSpec, folder: SandboxFolder, end: float) -> Sandbox:
        self._state.begin(folder)
        disk = self._make_folders(spec, folder)
        group = self._group(spec.name)
        self._cgroups.make(group, spec.resources)
        with _seccomp_program() as program, _appending(folder.status) as status:
            facts = self._facts(group, program, status)
            self._launch(bubblewrap_spec.command(spec, folder, facts), group, folder, (program, status))
        health = wait_until_ready(
            folder.socket,
            group,
            end,
            alive=lambda: bool(self._cgroups.pids(group)),
            log=lambda: self._boot_log(spec.name),
        )
        self._attest(health, disk, facts)
        # bwrap has its own view of them by now; ours need not stay.
        mounts.unmount(folder.tmp)
        mounts.unmount(folder.shm)
        pid = _status(folder)["child-pid"]
        limits = {"cpu": "cgroup", "memory": "cgroup", "pids": "cgroup", "disk": disk, "inodes": disk}
        facts_known = {
            "ref": secrets.token_hex(32),
            "pid": pid,
            "start_time": _start_time(pid),
            "boot_id": _boot_id(),
            "labels": layout.labels(spec, self._instance),
            "isolation": attest.isolation(health.attestation, self.name, "bubblewrap"),
            "limits_enforced": limits,
        }
        self._state.finish(folder, facts_known)
        return self.inspect(spec.name)

    def _make_folders(self, spec: SandboxSpec, folder: SandboxFolder) -> str:
        """Make what is mounted into the sandbox; says how the disk is limited."""
        for name, content in bubblewrap_spec.etc_files().items():
            folder.etc.mkdir(exist_ok=True)
            (folder.etc / name).write_text(content)
        for name in _existing("/etc", bubblewrap_spec.ETC):
            # A place to mount each: bwrap can't make one in a folder that is read-only.
            target = folder.etc / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir() if Path("/etc", name).is_dir() else target.touch()
        for path, size in ((folder.tmp, layout.tmp_size(spec.resources)), (folder.shm, layout.SHM_SIZE)):
            path.mkdir()
            mounts.tmpfs(path, size, layout.TMP_INODES, 0o1777)
        if workspace.can_mount(self._state):
            workspace.make(folder.image, folder.workspace, spec.resources)
            return "ext4"
        workspace.make_tmpfs(folder.workspace, spec.resources)
        return "tmpfs"

    def _facts(self, group: str, program: int, status: int) -> bubblewrap_spec.HostFacts:
        proc = (
            *bubblewrap_spec.PROC_READ_ONLY,
            *bubblewrap_spec.PROC_HIDDEN_FILES,
            *bubblewrap_spec.PROC_HIDDEN_FOLDERS,
        )
        return bubblewrap_spec.HostFacts(
            root_links={
                name: os.readlink(f"/{name}") if os.path.islink(f"/{name}") else None
                for name in sorted(_existing("/", bubblewrap_spec.ROOT_LINKS))
            },
            etc=_existing("/etc", bubblewrap_spec.ETC),
            proc=_existing("/proc", proc),
            memory_folder=self._cgroups.memory_folder(group),
            memory_mount=self._cgroups.memory_mount(),
            seccomp_fd=program,
            status_fd=status,
        )

    def _launch(self, command: Sequence[str], group: str, folder: SandboxFolder, descriptors: tuple[int, int]) -> None:
        """Start it as nobody's child: the launcher forks, and is gone when this returns."""
        joining = [str(path / "cgroup.procs") for path in self._cgroups.folders(group)]
        line = [*LIMITS, "sh", "-c", LAUNCHER, "sh", *joining, "--", *command]
        with _appending(folder.log) as log, open(os.devnull) as nothing:
            try:
                subprocess.run(
                    line, check=True, stdin=nothing, stdout=log, stderr=log, pass_fds=descriptors, cwd="/",
                    env=OUTER_ENVIRONMENT, start_new_session=True, timeout=LAUNCH_TIMEOUT,
                )  # fmt: skip
            except subprocess.SubprocessError as error:
                raise BootFailed(f"bwrap could not be started: {error}", self._boot_log(folder.name)) from error

    def _boot_log(self, name: str) -> str:
        return self.logs(name, tail=50)

    def _attest(self, health: Health, disk: str, facts: bubblewrap_spec.HostFacts) -> None:
        groups = frozenset({0, *os.getgroups(), os.getegid()})
        expected = attest.Expectation(disk, groups, bubblewrap_spec.mount_targets(facts))
        wrong = attest.executor_mismatches(health.attestation, expected)
        if wrong:
            raise AttestationFailed(wrong)

    def _clear(self, folder: SandboxFolder) -> None:
        if not self._state.owns(folder):
            return
        self._cgroups.remove(self._group(folder.name))
        if folder.path.exists():
            workspace.clear(folder.path)
            folder.delete()

    # Values

    def _group(self, name: str) -> str:
        return f"{self._instance}.{name}"

    def _runs(self, meta: dict[str, Any]) -> bool:
        """Whether the executor that was recorded is still that process."""
        pid = meta.get("pid")
        return pid is not None and meta["boot_id"] == _boot_id() and meta["start_time"] == _start_time(pid)

    def _sandbox(self, folder: SandboxFolder, meta: dict[str, Any], listed: bool = False) -> Sandbox:
        if "pid" not in meta:
            return self._state.remainder(folder)
        status = {} if self._runs(meta) else _status(folder)
        # The end is known once bwrap has written it down, a moment after the executor's; or nobody is left to do it.
        runs = "exit-code" not in status and bool(self._cgroups.pids(self._group(folder.name)))
        return Sandbox(
            ref=meta["ref"],
            name=folder.name,
            state=SandboxState.RUNNING if runs else SandboxState.EXITED,
            socket=folder.socket,
            created_at=dt.datetime.fromisoformat(meta["begun_at"]),
            labels=meta["labels"],
            exit_code=status.get("exit-code"),
            oom_killed=status.get("exit-code") == KILLED and self._oom_kills(folder.name) > 0,
            isolation={} if listed else meta["isolation"],
            limits_enforced={} if listed else meta["limits_enforced"],
        )

    def _oom_kills(self, name: str) -> int:
        try:
            return self._cgroups.stats(self._group(name)).oom_kills
        except FileNotFoundError:
            return 0


@contextmanager
def _seccomp_program() -> Iterator[int]:
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, seccomp.compiled())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _appending(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _status(folder: SandboxFolder) -> dict[str, Any]:
    """What bwrap wrote: `child-pid` once it started, `exit-code` once it ended."""
    found: dict[str, Any] = {}
    for line in _text(folder.status).splitlines():
        found.update(json.loads(line))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _existing(parent: str, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for name in names if os.path.exists(f"{parent}/{name}"))


def _start_time(pid: int) -> int | None:
    """When the process began, in ticks since boot; None if there is none, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; the fields after it are plain.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
