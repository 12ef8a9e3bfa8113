"""What the doctor reads of a host: a folder stands for / where this one has no such fault."""

from pathlib import Path

import pytest

from runtime.doctor import host
from runtime.doctor.findings import Level
from runtime.drivers import workspace
from runtime.drivers.errors import DiskFull
from runtime.drivers.state import StateFolder


class Root:
    """A folder with files as the kernel shows them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str = "") -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)


@pytest.fixture
def root(tmp_path) -> Root:
    """One with cgroups of version 1, swap and its accounting."""
    made = Root(tmp_path)
    for name in ("memory", "pids", "cpu", "cpuacct", "freezer"):
        made.write(f"sys/fs/cgroup/{name}/cgroup.procs")
    made.write("sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "1")
    made.write("proc/swaps", "Filename Type\n/dev/sda2 partition\n")
    return made


def levels(findings):
    return {finding.subject: finding.level for finding in findings}


def test_cgroups_of_version_1(root):
    assert levels(host.check_cgroups(root.path)) == {"cgroups": Level.OK, "swap": Level.OK}


@pytest.mark.parametrize("name", ["memory", "pids", "cpu", "cpuacct", "freezer"])
def test_a_missing_controller_is_a_problem(root, name):
    (root.path / f"sys/fs/cgroup/{name}/cgroup.procs").unlink()
    (found,) = host.check_cgroups(root.path)
    assert found.level == Level.PROBLEM and f" {name}" in found.words and found.mend


def test_swap_without_accounting_is_told(root):
    (root.path / "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").unlink()
    swap = host.check_cgroups(root.path)[1]
    assert swap.level == Level.WEAK and "swapaccount=1" in swap.mend
    root.write("proc/swaps", "Filename Type\n")
    assert host.check_cgroups(root.path)[1].level == Level.OK


def test_cgroups_of_version_2(root):
    root.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    (root.path / "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").unlink()
    assert levels(host.check_cgroups(root.path)) == {"cgroups": Level.OK, "swap": Level.OK}
    root.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    assert host.check_cgroups(root.path)[0].level == Level.PROBLEM


def test_a_kernel_without_filters_is_a_problem(root):
    assert host.check_seccomp("docker", root.path).level == Level.PROBLEM
    root.write("proc/sys/kernel/seccomp/actions_avail", "kill_process errno allow\n")
    assert host.check_seccomp("docker", root.path).level == Level.OK


def test_workspaces_without_ext4_are_told(root, monkeypatch):
    (found,) = host.check_workspaces(root.path / "var", root.path)
    assert found.level == Level.WEAK
    assert "modprobe ext4" in found.mend and "modprobe loop" in found.mend
    root.write("proc/filesystems", "nodev\ttmpfs\n\text4\n")
    root.write("dev/loop-control")
    monkeypatch.setattr(workspace, "can_mount", lambda state: False)
    assert host.check_workspaces(root.path / "var", root.path)[0].level == Level.WEAK


@pytest.mark.bubblewrap
def test_workspaces_of_this_host(tmp_path):
    mounts = workspace.can_mount(StateFolder(tmp_path, ""))
    assert levels(host.check_workspaces(tmp_path))["workspace disks"] == (Level.OK if mounts else Level.WEAK)


def test_a_workspace_that_can_not_be_mounted_now_is_a_problem(root, monkeypatch):
    def full(state):
        raise DiskFull("no space left on device")

    root.write("proc/filesystems", "nodev\ttmpfs\n\text4\n")
    root.write("dev/loop-control")
    monkeypatch.setattr(workspace, "can_mount", full)
    (found,) = host.check_workspaces(root.path / "var", root.path)
    assert found.level == Level.PROBLEM and "no space left" in found.words


def test_apparmor(root):
    assert host.check_apparmor(True, root.path).level == Level.WEAK
    root.write("sys/module/apparmor/parameters/enabled", "Y\n")
    assert host.check_apparmor(True, root.path).level == Level.OK
    assert host.check_apparmor(False, root.path).level == Level.WEAK
    assert host.check_apparmor(None, root.path).level == Level.WEAK


def test_core_dumps_behind_a_pipe_are_told(root):
    root.write("proc/sys/kernel/core_pattern", "core\n")
    assert host.check_core_dumps(root.path).level == Level.OK
    root.write("proc/sys/kernel/core_pattern", "|/usr/share/apport %p\n")
    assert host.check_core_dumps(root.path).level == Level.WEAK


def test_user_namespaces(root):
    assert "On for users" in host.check_user_namespaces(root.path).words
    root.write("proc/sys/user/max_user_namespaces", "0\n")
    assert "Off for users" in host.check_user_namespaces(root.path).words
