"""Cgroups of sandboxes that no engine makes for us: the only module that tells version 1 from version 2.

A sandbox's group is named `<instance>.<name>`, below `sandboxes` in every hierarchy that is used. On version 1 there is
one hierarchy a controller (memory, pids, cpu, cpuacct, freezer), on version 2 a single one.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from runtime.drivers import layout
from runtime.drivers.errors import DriverError, NoCapacity, RuntimeUnsupported
from runtime.drivers.types import Resources, SandboxStats

ROOT = Path("/sys/fs/cgroup")
PARENT = "sandboxes"
KILL_TIMEOUT = 5.0
"""Seconds until processes that were sent SIGKILL must be gone."""
PAUSE = 0.002


class Cgroups(ABC):
    """The sandboxes' groups on this host."""

    @abstractmethod
    def check(self) -> None:
        """Raise `RuntimeUnsupported` if groups with limits can't be made here."""

    @abstractmethod
    def make(self, name: str, resources: Resources) -> None:
        """Make the group, with its limits. One that is there already is kept and limited anew."""

    @abstractmethod
    def update(self, name: str, resources: Resources) -> None:
        """Give the group the cpu and memory of `resources`. Raises `NoCapacity` if it uses more memory already."""

    @abstractmethod
    def folders(self, name: str) -> list[Path]:
        """The group's folders; a process is in the group once its pid is in the `cgroup.procs` of each."""

    @abstractmethod
    def memory_folder(self, name: str) -> Path:
        """The folder whose files count the group's OOM kills."""

    @abstractmethod
    def memory_mount(self) -> str:
        """Where programs inside look for that folder."""

    @abstractmethod
    def stats(self, name: str) -> SandboxStats:
        """The group's figures. Raises `FileNotFoundError` if it is gone."""

    @abstractmethod
    def _kill_once(self, name: str) -> None:
        """Send SIGKILL to all that are in the group now."""

    def add(self, name: str, pid: int) -> None:
        """Put a process into the group."""
        for folder in self.folders(name):
            (folder / "cgroup.procs").write_text(str(pid))

    def pids(self, name: str) -> set[int]:
        """The processes in the group."""
        found: set[int] = set()
        for folder in self.folders(name):
            with suppress(FileNotFoundError, OSError):
                found |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
        return found

    def names(self) -> set[str]:
        """The groups that there are."""
        found: set[str] = set()
        for folder in self.folders(""):
            with suppress(FileNotFoundError):
                found |= {entry.name for entry in os.scandir(folder) if entry.is_dir()}
        return found

    def remove(self, name: str) -> None:
        """Kill all that is in the group and remove it. One that is gone is no error."""
        end = time.monotonic() + KILL_TIMEOUT
        while self.pids(name):
            self._kill_once(name)
            if time.monotonic() > end:
                raise DriverError(f"processes of {name} do not die: {sorted(self.pids(name))[:10]}")
            time.sleep(PAUSE)
        for folder in self.folders(name):
            _remove_folder(folder, end)


class CgroupsV1(Cgroups):
    """One hierarchy a controller."""

    CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "freezer")

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def check(self) -> None:
        for controller in self.CONTROLLERS:
            folder = self._root / controller
            if not (folder / "cgroup.procs").exists() or not os.access(folder, os.W_OK):
                raise RuntimeUnsupported(f"The cgroup controller {controller!r} is not mounted writable at {folder}.")

    def make(self, name: str, resources: Resources) -> None:
        for folder in self.folders(name):
            _make_folder(folder)
        memory, pids, cpu, _, _ = self.folders(name)
        _write(memory / "memory.limit_in_bytes", resources.memory)
        # Missing where the kernel was started without swap accounting; then swap is not limited here.
        if (memory / "memory.memsw.limit_in_bytes").exists():
            _write(memory / "memory.memsw.limit_in_bytes", resources.memory)
        _write(pids / "pids.max", resources.pids)
        _write(cpu / "cpu.cfs_period_us", layout.CPU_PERIOD)
        _write(cpu / "cpu.cfs_quota_us", layout.cpu_quota(resources))
        _write(cpu / "cpu.shares", layout.CPU_SHARES)

    def update(self, name: str, resources: Resources) -> None:
        memory, _, cpu, _, _ = self.folders(name)
        limits = [memory / "memory.limit_in_bytes", memory / "memory.memsw.limit_in_bytes"]
        # Memory with swap is never less than memory alone: the wider one goes first on the way up, last on the way down.
        if resources.memory > int(limits[0].read_text()):
            limits.reverse()
        for limit in limits:
            if limit.exists():
                _shrink(limit, resources.memory)
        _write(cpu / "cpu.cfs_quota_us", layout.cpu_quota(resources))

    def folders(self, name: str) -> list[Path]:
        return [self._root / controller / PARENT / name for controller in self.CONTROLLERS]

    def memory_folder(self, name: str) -> Path:
        return self.folders(name)[0]

    def memory_mount(self) -> str:
        return "/sys/fs/cgroup/memory"

    def stats(self, name: str) -> SandboxStats:
        memory, pids, _, cpuacct, _ = self.folders(name)
        return SandboxStats(
            cpu_seconds=int((cpuacct / "cpuacct.usage").read_text()) / 1e9,
            memory_bytes=int((memory / "memory.usage_in_bytes").read_text()),
            memory_peak_bytes=int((memory / "memory.max_usage_in_bytes").read_text()),
            pids=int((pids / "pids.current").read_text()),
            oom_kills=_counter(memory / "memory.oom_control", "oom_kill"),
        )

    def _kill_once(self, name: str) -> None:
        # Frozen while it is swept, so that a fork bomb can't outrun the sweep; a frozen process dies once it thaws.
        state = self.folders(name)[4] / "freezer.state"
        with suppress(OSError):
            state.write_text("FROZEN")
        for pid in self.pids(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(OSError):
            state.write_text("THAWED")


class CgroupsV2(Cgroups):
    """One hierarchy for all controllers."""

    CONTROLLERS = ("cpu", "memory", "pids")

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def check(self) -> None:
        there = (self._root / "cgroup.controllers").read_text().split()
        missing = [controller for controller in self.CONTROLLERS if controller not in there]
        if missing or not os.access(self._root, os.W_OK):
            raise RuntimeUnsupported(f"{self._root} can't be written, or lacks the controllers {missing}.")

    def make(self, name: str, resources: Resources) -> None:
        parent = self._root / PARENT
        _make_folder(parent)
        for folder in (self._root, parent):
            self._delegate(folder)
        group = parent / name
        _make_folder(group)
        _write(group / "memory.max", resources.memory)
        if (group / "memory.swap.max").exists():
            _write(group / "memory.swap.max", 0)
        _write(group / "pids.max", resources.pids)
        _write(group / "cpu.max", f"{layout.cpu_quota(resources)} {layout.CPU_PERIOD}")
        # The same share as on version 1, on this one's scale of 1 to 10,000.
        _write(group / "cpu.weight", 1 + (layout.CPU_SHARES - 2) * 9999 // 262142)

    def update(self, name: str, resources: Resources) -> None:
        (group,) = self.folders(name)
        # This version takes any limit, and kills until it holds.
        if int((group / "memory.current").read_text()) > resources.memory:
            raise NoCapacity(f"{name} uses more than {resources.memory} bytes already")
        _write(group / "memory.max", resources.memory)
        _write(group / "cpu.max", f"{layout.cpu_quota(resources)} {layout.CPU_PERIOD}")

    def folders(self, name: str) -> list[Path]:
        return [self._root / PARENT / name]

    def memory_folder(self, name: str) -> Path:
        return self.folders(name)[0]

    def memory_mount(self) -> str:
        return "/sys/fs/cgroup"

    def stats(self, name: str) -> SandboxStats:
        (group,) = self.folders(name)
        usage = int((group / "memory.current").read_text())
        peak = group / "memory.peak"
        return SandboxStats(
            cpu_seconds=_counter(group / "cpu.stat", "usage_usec") / 1e6,
            memory_bytes=usage,
            memory_peak_bytes=int(peak.read_text()) if peak.exists() else usage,
            pids=int((group / "pids.current").read_text()),
            oom_kills=_counter(group / "memory.events", "oom_kill"),
        )

    def _delegate(self, folder: Path) -> None:
        wanted = " ".join(f"+{controller}" for controller in self.CONTROLLERS)
        control = folder / "cgroup.subtree_control"
        if set(self.CONTROLLERS) <= set(control.read_text().split()):
            return
        try:
            control.write_text(wanted)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # In a container the top group holds processes (ours), and then it can't hand on controllers.
            own = folder / "control-plane"
            _make_folder(own)
            for pid in (folder / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    (own / "cgroup.procs").write_text(pid)
            control.write_text(wanted)

    def _kill_once(self, name: str) -> None:
        kill = self.folders(name)[0] / "cgroup.kill"
        if kill.exists():
            with suppress(FileNotFoundError):
                kill.write_text("1")
            return
        for pid in self.pids(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def detect(root: Path = ROOT) -> Cgroups:
    """The version that this host limits with."""
    return CgroupsV2(root) if (root / "cgroup.controllers").exists() else CgroupsV1(root)


# Of sandboxes whose groups an engine has made: found by a process in them, wherever the engine puts its groups.


def oom_kills_of(pid: int, root: Path = ROOT) -> int:
    """How many processes were killed for want of memory in the group of that process; 0 where that can't be seen."""
    folder, first = _memory_group_of(pid, root)
    return _figure(folder, "memory.oom_control" if first else "memory.events", "oom_kill")


def memory_peak_of(pid: int, root: Path = ROOT) -> int:
    """The most bytes that the group of that process has held at a time; 0 where that can't be seen. Engines tell it on version 1 alone."""
    folder, first = _memory_group_of(pid, root)
    return _figure(folder, "memory.max_usage_in_bytes" if first else "memory.peak")


def would_kill(pid: int, memory: int, root: Path = ROOT) -> bool:
    """Whether a limit of so many bytes would end processes of that group: version 1 refuses one that can't be kept, 2 kills until it is."""
    folder, first = _memory_group_of(pid, root)
    return not first and _figure(folder, "memory.current") > memory


def _memory_group_of(pid: int, root: Path) -> tuple[Path | None, bool]:
    """The folder that counts its memory, and whether that is version 1's."""
    try:
        lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    except OSError:
        return None, False
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return root / "memory" / path.strip("/"), True
    for _, controllers, path in lines:
        if not controllers and (root / "cgroup.controllers").exists():
            return root / path.strip("/"), False
    return None, False


def _figure(folder: Path | None, name: str, key: str = "") -> int:
    """The number in that file, or behind `key` in it; 0 where there is none."""
    if folder is None:
        return 0
    try:
        return _counter(folder / name, key) if key else int((folder / name).read_text())
    except (OSError, ValueError):
        return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise RuntimeUnsupported(f"{folder} can't be made: run as root, with a writable cgroup tree.") from error
    except OSError as error:
        raise NoCapacity(f"no more cgroups: {error}") from error


def _remove_folder(folder: Path, end: float) -> None:
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            # The last process has left, but is not quite buried.
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise DriverError(f"the cgroup {folder} can't be removed: {error}") from error
            time.sleep(PAUSE)


def _write(file: Path, value: int | str) -> None:
    try:
        file.write_text(str(value))
    except OSError as error:
        raise DriverError(f"{file} does not take {value}: {error}") from error


def _shrink(file: Path, value: int) -> None:
    try:
        file.write_text(str(value))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise NoCapacity(f"more than {value} bytes are used already") from error
        raise DriverError(f"{file} does not take {value}: {error}") from error


def _counter(file: Path, key: str) -> int:
    for line in file.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0
