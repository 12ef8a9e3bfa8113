"""Cgroups of both versions, on a folder that stands for /sys/fs/cgroup, and on the real tree."""

import os
import subprocess

import pytest

from runtime.drivers import cgroups
from runtime.drivers.errors import RuntimeUnsupported
from runtime.drivers.types import MIB, Resources

SMALL = Resources(cpu=0.5, memory=128 * MIB, pids=64)


class Tree:
    """A folder whose groups have files from the start, as the kernel makes them."""

    def __init__(self, root, monkeypatch, files):
        original = cgroups._make_folder

        def make(folder):
            original(folder)
            for name, text in files.items():
                if not (folder / name).exists():
                    (folder / name).write_text(text)

        monkeypatch.setattr(cgroups, "_make_folder", make)
        self.root = root

    def read(self, path):
        return (self.root / path).read_text()


@pytest.fixture
def v1(tmp_path, monkeypatch):
    files = {
        "cgroup.procs": "",
        "memory.memsw.limit_in_bytes": "",
        "memory.usage_in_bytes": "1000\n",
        "memory.max_usage_in_bytes": "2000\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        "pids.current": "4\n",
        "cpuacct.usage": "1500000000\n",
    }
    for controller in cgroups.CgroupsV1.CONTROLLERS:
        (tmp_path / controller).mkdir()
        (tmp_path / controller / "cgroup.procs").write_text("")
    return Tree(tmp_path, monkeypatch, files)


@pytest.fixture
def v2(tmp_path, monkeypatch):
    files = {
        "cgroup.procs": "",
        "cgroup.subtree_control": "",
        "cgroup.kill": "",
        "memory.swap.max": "max\n",
        "memory.current": "1000\n",
        "memory.peak": "2000\n",
        "memory.events": "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n",
        "pids.current": "4\n",
        "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    }
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return Tree(tmp_path, monkeypatch, files)


def test_v1_limits(v1):
    groups = cgroups.detect(v1.root)
    assert isinstance(groups, cgroups.CgroupsV1)
    groups.check()
    groups.make("main.sbx-1", SMALL)
    group = "sandboxes/main.sbx-1"
    assert v1.read(f"memory/{group}/memory.limit_in_bytes") == str(128 * MIB)
    assert v1.read(f"memory/{group}/memory.memsw.limit_in_bytes") == str(128 * MIB)
    assert v1.read(f"pids/{group}/pids.max") == "64"
    assert v1.read(f"cpu/{group}/cpu.cfs_period_us") == "100000"
    assert v1.read(f"cpu/{group}/cpu.cfs_quota_us") == "50000"
    assert v1.read(f"cpu/{group}/cpu.shares") == "256"
    groups.add("main.sbx-1", 4321)
    for controller in groups.CONTROLLERS:
        assert v1.read(f"{controller}/{group}/cgroup.procs") == "4321"
    assert groups.pids("main.sbx-1") == {4321} and groups.names() == {"main.sbx-1"}
    assert groups.memory_folder("main.sbx-1") == v1.root / "memory" / group
    stats = groups.stats("main.sbx-1")
    assert (stats.cpu_seconds, stats.memory_bytes, stats.memory_peak_bytes) == (1.5, 1000, 2000)
    assert (stats.pids, stats.oom_kills) == (4, 3)


def test_v2_limits(v2):
    groups = cgroups.detect(v2.root)
    assert isinstance(groups, cgroups.CgroupsV2)
    groups.check()
    groups.make("main.sbx-1", SMALL)
    group = "sandboxes/main.sbx-1"
    assert v2.read("cgroup.subtree_control") == v2.read("sandboxes/cgroup.subtree_control") == "+cpu +memory +pids"
    assert v2.read(f"{group}/memory.max") == str(128 * MIB)
    assert v2.read(f"{group}/memory.swap.max") == "0"
    assert v2.read(f"{group}/pids.max") == "64"
    assert v2.read(f"{group}/cpu.max") == "50000 100000"
    assert v2.read(f"{group}/cpu.weight") == "10"
    groups.add("main.sbx-1", 4321)
    assert groups.pids("main.sbx-1") == {4321} and groups.names() == {"main.sbx-1"}
    assert groups.memory_mount() == "/sys/fs/cgroup"
    stats = groups.stats("main.sbx-1")
    assert (stats.cpu_seconds, stats.memory_bytes, stats.memory_peak_bytes) == (1.5, 1000, 2000)
    assert (stats.pids, stats.oom_kills) == (4, 3)


def test_v2_kills_all_at_once(v2):
    groups = cgroups.detect(v2.root)
    groups.make("main.sbx-1", SMALL)
    groups._kill_once("main.sbx-1")
    assert v2.read("sandboxes/main.sbx-1/cgroup.kill") == "1"


def test_v2_without_peak_and_swap(v2):
    groups = cgroups.detect(v2.root)
    groups.make("g", SMALL)
    (v2.root / "sandboxes/g/memory.peak").unlink()
    assert groups.stats("g").memory_peak_bytes == 1000


def test_v2_makes_way_in_a_container(v2, monkeypatch):
    """The top group of a container holds processes, so that it can't hand on controllers until they have moved."""
    groups = cgroups.detect(v2.root)
    (v2.root / "cgroup.procs").write_text("11\n12\n")
    type_of_path = type(v2.root)
    original, refused = type_of_path.write_text, []

    def write(path, text, *arguments, **options):
        if path == v2.root / "cgroup.subtree_control" and not refused:
            refused.append(path)
            raise OSError(16, "Device or resource busy")
        return original(path, text, *arguments, **options)

    monkeypatch.setattr(type_of_path, "write_text", write)
    groups.make("g", SMALL)
    assert refused and v2.read("control-plane/cgroup.procs") == "12"
    assert v2.read("cgroup.subtree_control") == "+cpu +memory +pids"


@pytest.mark.parametrize("missing", ["memory", "freezer"])
def test_v1_without_a_controller(v1, missing):
    (v1.root / missing / "cgroup.procs").unlink()
    with pytest.raises(RuntimeUnsupported, match=missing):
        cgroups.detect(v1.root).check()


def test_v2_without_a_controller(v2):
    (v2.root / "cgroup.controllers").write_text("cpu pids")
    with pytest.raises(RuntimeUnsupported, match="memory"):
        cgroups.detect(v2.root).check()


def test_removing_what_is_gone(tmp_path):
    cgroups.CgroupsV1(tmp_path).remove("none")
    cgroups.CgroupsV2(tmp_path).remove("none")


@pytest.fixture
def engine_made(tmp_path, monkeypatch):
    """Of the group of a process that an engine has made: its folder below a tree of that version."""

    def make(version):
        record = tmp_path / "record"
        path = {1: "7:pids:/docker/abc\n4:cpu,memory:/docker/abc\n0::/\n", 2: "0::/system.slice/docker-abc.scope\n"}[
            version
        ]
        record.write_text(path)
        original = cgroups.Path
        monkeypatch.setattr(cgroups, "Path", lambda name: record if name == "/proc/7/cgroup" else original(name))
        if version == 2:
            (tmp_path / "cgroup.controllers").write_text("memory")
        folder = tmp_path / {1: "memory/docker/abc", 2: "system.slice/docker-abc.scope"}[version]
        folder.mkdir(parents=True)
        return folder

    return make


@pytest.mark.parametrize(
    ("version", "files"),
    [
        (1, {"memory.oom_control": "under_oom 0\noom_kill 5\n", "memory.max_usage_in_bytes": "2000\n"}),
        (2, {"memory.events": "oom 7\noom_kill 5\n", "memory.peak": "2000\n", "memory.current": "1000\n"}),
    ],
)
def test_figures_of_a_group_that_an_engine_made(engine_made, tmp_path, version, files):
    folder = engine_made(version)
    assert (cgroups.oom_kills_of(7, tmp_path), cgroups.memory_peak_of(7, tmp_path)) == (0, 0)
    for name, text in files.items():
        (folder / name).write_text(text)
    assert (cgroups.oom_kills_of(7, tmp_path), cgroups.memory_peak_of(7, tmp_path)) == (5, 2000)
    assert cgroups.would_kill(7, 999, tmp_path) is (version == 2)
    assert not cgroups.would_kill(7, 1000, tmp_path)


def test_of_a_process_that_is_gone_nothing_is_told(tmp_path):
    gone = 2**22
    assert (cgroups.oom_kills_of(gone, tmp_path), cgroups.memory_peak_of(gone, tmp_path)) == (0, 0)
    assert not cgroups.would_kill(gone, 1, tmp_path)


@pytest.mark.bubblewrap
def test_the_real_tree_kills_a_fork_bomb():
    groups, name = cgroups.detect(), f"test.bomb-{os.getpid()}"
    groups.make(name, Resources(pids=40))
    join = " ".join(f"echo 0 > {folder}/cgroup.procs;" for folder in groups.folders(name))
    bomb = "f() { while :; do f & done 2>/dev/null; }; f"
    process = subprocess.Popen(
        ["sh", "-c", f"{join} echo in; {bomb}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"in\n"
    groups.remove(name)
    process.wait(10)
    process.stdout.close()
    assert name not in groups.names() and groups.pids(name) == set()
