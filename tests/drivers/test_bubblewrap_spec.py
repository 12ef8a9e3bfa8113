"""The whole command line of bwrap."""

from pathlib import Path

from runtime.drivers import bubblewrap_spec
from runtime.drivers.bubblewrap_spec import HostFacts
from runtime.drivers.state import SandboxFolder
from runtime.drivers.types import SandboxSpec

FACTS = HostFacts(
    root_links={"bin": "usr/bin", "lib64": "usr/lib64", "sbin": None},
    etc=frozenset({"ssl/certs", "ld.so.cache"}),
    proc=frozenset({"sys", "bus", "keys", "acpi"}),
    memory_folder=Path("/sys/fs/cgroup/memory/sandboxes/main.sbx-1"),
    memory_mount="/sys/fs/cgroup/memory",
    seccomp_fd=7,
    status_fd=8,
)
COMMAND = """
bwrap
--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try
--hostname sandbox --as-pid-1 --new-session --chdir / --clearenv
--setenv PATH /usr/local/bin:/usr/bin:/bin --setenv LANG C.UTF-8
--cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_KILL --cap-add CAP_SETPCAP
--seccomp 7 --json-status-fd 8
--ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib64 /lib64 --ro-bind /sbin /sbin
--perms 0755 --dir /opt --perms 0755 --dir /run --perms 0755 --dir /sys --perms 0755 --dir /sys/fs
--perms 0755 --dir /sys/fs/cgroup
--ro-bind /state/sandboxes/sbx-1/etc /etc --ro-bind /etc/ssl/certs /etc/ssl/certs
--ro-bind /etc/ld.so.cache /etc/ld.so.cache
--proc /proc --ro-bind /proc/bus /proc/bus --ro-bind /proc/sys /proc/sys --ro-bind /dev/null /proc/keys
--tmpfs /proc/acpi --remount-ro /proc/acpi
--dev /dev --bind /state/sandboxes/sbx-1/shm /dev/shm
--ro-bind /sys/fs/cgroup/memory/sandboxes/main.sbx-1 /sys/fs/cgroup/memory
--ro-bind /images/basic /opt/sandbox --symlink /opt/sandbox/site/node_modules /node_modules
--bind /state/sandboxes/sbx-1/tmp /tmp --bind /state/sandboxes/sbx-1/sock /run/sbx
--bind /state/sandboxes/sbx-1/ws /workspace
--remount-ro / --
setpriv --bounding-set=-all,+setuid,+setgid,+kill --inh-caps=-all --ambient-caps=-all
python3 -I /opt/sandbox/executor --socket /run/sbx/executor.sock --workspace /workspace --slots 4
"""


def test_the_whole_command():
    spec = SandboxSpec(name="sbx-1", image="/images/basic")
    folder = SandboxFolder(Path("/state"), "sbx-1")
    assert bubblewrap_spec.command(spec, folder, FACTS) == COMMAND.split()


def test_mounts_of_ours():
    assert bubblewrap_spec.mount_targets(FACTS) == ("/usr", "/etc", "/opt/sandbox", "/sbin")


def test_users_inside():
    files = bubblewrap_spec.etc_files()
    users = [line.split(":")[2:4] for line in files["passwd"].splitlines()]
    assert users[0] == ["0", "0"] and users[1:] == [[str(20000 + n), "20000"] for n in range(17)]
    assert files["nsswitch.conf"].count("files") == 3
