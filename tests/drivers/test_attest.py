"""What the executor says of itself, compared with what a sandbox must be."""

from dataclasses import replace

import pytest

from runtime.drivers import attest
from runtime.drivers.executor_client.health import Mount, SelfReport

MOUNTS = (
    Mount("/", "overlay", ("ro",)),
    Mount("/proc", "proc", ("rw",)),
    Mount("/dev/shm", "tmpfs", ("rw", "nosuid", "nodev", "noexec")),
    Mount("/sys/fs/cgroup/memory", "cgroup", ("ro",)),
    Mount("/tmp", "tmpfs", ("rw", "nosuid", "nodev", "noexec")),
    Mount("/run/sbx", "ext4", ("rw",)),
    Mount("/workspace", "ext4", ("rw", "nosuid", "nodev")),
    Mount("/etc/hosts", "ext4", ("ro",)),
)
REPORT = SelfReport(
    pid=1,
    uid=0,
    gid=0,
    groups=(0, 1500),
    user_uid=20000,
    cap_eff=0xE0,
    cap_prm=0xE0,
    cap_bnd=0xE0,
    no_new_privs=1,
    seccomp=2,
    rootfs_read_only=True,
    apart=False,
    interfaces=("lo",),
    mounts=MOUNTS,
)
EXPECTED = attest.Expectation("ext4", frozenset({0, 1500}), ("/etc/hosts",))


def without(target):
    return tuple(mount for mount in MOUNTS if mount.target != target)


def test_a_sandbox_as_it_should_be():
    assert attest.executor_mismatches(REPORT, EXPECTED) == []
    shown = attest.isolation(REPORT, "docker", "runc")
    assert shown["seccomp"] == "filter" and shown["capabilities"] == ["SETUID", "SETGID", "KILL"]


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 2},
        {"uid": 1000},
        {"groups": (0, 27)},
        {"cap_eff": 0xE1},
        {"cap_eff": 0},
        {"cap_prm": 0xE0 | 1 << 21},
        {"cap_bnd": 0x1FFFFFFFFFF},
        {"cap_bnd": 0xE0 | 1 << 21},
        {"no_new_privs": 0},
        {"seccomp": 0},
        {"rootfs_read_only": False},
        {"interfaces": ("eth0", "lo")},
        {"mounts": without("/workspace")},
        {"mounts": without("/tmp")},
        {"mounts": without("/run/sbx")},
        {"mounts": (*without("/workspace"), Mount("/workspace", "overlay", ("rw", "nosuid", "nodev")))},
        {"mounts": (*without("/workspace"), Mount("/workspace", "ext4", ("rw", "nodev")))},
        {"mounts": (*MOUNTS, Mount("/workspace", "overlay", ("rw", "nosuid", "nodev")))},
        {"mounts": (*without("/tmp"), Mount("/tmp", "tmpfs", ("rw", "nosuid", "nodev")))},
        {"mounts": (*MOUNTS, Mount("/var/run/docker.sock", "tmpfs", ("rw",)))},
        {"mounts": (*MOUNTS, Mount("/etc/hosts2", "ext4", ("rw",)))},
        {"mounts": (*MOUNTS, Mount("/workspace/sub", "ext4", ("rw",)))},
    ],
    ids=str,
)
def test_a_difference_is_told(change):
    assert len(attest.executor_mismatches(replace(REPORT, **change), EXPECTED)) == 1


def test_a_kernel_that_shows_less():
    """gVisor: other types and few options of mounts, but all the rest."""
    gvisor = replace(EXPECTED, gvisor=True)
    hidden = {"nosuid", "nodev"}
    mounts = tuple(Mount(m.target, "9p", tuple(o for o in m.options if o not in hidden)) for m in MOUNTS)
    mounts += (Mount("/proc", "proc", ("rw",)), Mount("/proc/1", "tmpfs", ("rw",)))
    seen = replace(REPORT, no_new_privs=0, rootfs_read_only=False, mounts=mounts, apart=True)
    assert attest.executor_mismatches(seen, gvisor) == []
    shown = attest.isolation(seen, "docker", "runsc", gvisor=True)
    assert shown["no_new_privileges"] is None and shown["seccomp"] == "filter"
    assert attest.executor_mismatches(replace(seen, seccomp=0), gvisor) == ["seccomp mode 0"]
    told = attest.executor_mismatches(replace(seen, apart=False), gvisor)
    assert told == ["runs can see the executor in /proc"]
    writable = (Mount("/", "9p", ("rw",)), *mounts[1:])
    assert attest.executor_mismatches(replace(seen, mounts=writable), gvisor) == ["the root file system can be written"]
    assert len(attest.executor_mismatches(seen, EXPECTED)) == 4


@pytest.mark.parametrize("field", ["cap_eff", "cap_prm", "cap_bnd"])
@pytest.mark.parametrize("left", [0xE0 | 1 << 21, 0xE0 | 1 << 8, 0xE0 | 1 << 21 | 1 << 8])
def test_what_was_borrowed_for_gvisor_must_be_gone(field, left):
    gvisor = replace(EXPECTED, gvisor=True)
    seen = replace(REPORT, apart=True, **{field: left})
    assert len(attest.executor_mismatches(seen, gvisor)) == 1
