"""SandboxSpec -> the whole command line of bwrap, and the /etc that goes with it. Pure.

No user namespace: root inside is root of the host with three capabilities, as in a Docker container, so that it can
become the users. What the sandbox sees of the host is /usr, read-only, and what is named here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.drivers import layout
from runtime.drivers.state import SandboxFolder
from runtime.drivers.types import SandboxSpec
from runtime.drivers.workspace import USER

ROOT_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Names in / that are symlinks into /usr, or folders of their own on older systems."""
ETC = ("ssl/certs", "alternatives", "ld.so.cache", "fonts", "mime.types")
"""What programs need of the host's /etc, and nobody minds."""
PROC_HIDDEN_FILES = ("kcore", "keys", "key-users", "kmsg", "timer_list", "latency_stats", "timer_stats", "sched_debug")
PROC_HIDDEN_FOLDERS = ("acpi", "asound", "scsi")
PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
MAX_SLOTS = 16
# bwrap leaves the bounding set as it is where it makes no user namespace. Cutting it takes CAP_SETPCAP, which goes too.
SHED = (
    "setpriv",
    "--bounding-set=-all," + ",".join(f"+{name.lower()}" for name in layout.CAPABILITIES),
    "--inh-caps=-all",
    "--ambient-caps=-all",
)


@dataclass(frozen=True)
class HostFacts:
    """What the command depends on beside the spec.

    `root_links` maps the names in / to what they link to (None: a real folder), `etc` and `proc` say which of the
    entries above exist, `memory_folder` is the sandbox's cgroup and `memory_mount` where it is shown inside. The
    descriptors are those of the seccomp program and of the file that bwrap writes its status to.
    """

    root_links: dict[str, str | None]
    etc: frozenset[str]
    proc: frozenset[str]
    memory_folder: Path
    memory_mount: str
    seccomp_fd: int
    status_fd: int


def command(spec: SandboxSpec, folder: SandboxFolder, facts: HostFacts) -> list[str]:
    """The command, complete: bwrap adds nothing that matters by itself."""
    return [
        "bwrap",
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *("--hostname", layout.HOSTNAME, "--as-pid-1", "--new-session", "--chdir", "/", "--clearenv"),
        *_each("--setenv", layout.ENVIRONMENT.items()),
        *("--cap-drop", "ALL"),
        *_each("--cap-add", ((f"CAP_{name}",) for name in (*layout.CAPABILITIES, "SETPCAP"))),
        *("--seccomp", str(facts.seccomp_fd), "--json-status-fd", str(facts.status_fd)),
        *_system(facts),
        # What bwrap makes by itself on the way to a mount, only root could enter.
        *_each("--perms", (("0755", "--dir", name) for name in ("/opt", "/run", "/sys", "/sys/fs", "/sys/fs/cgroup"))),
        *("--ro-bind", str(folder.etc), "/etc"),
        *_each("--ro-bind", ((f"/etc/{name}", f"/etc/{name}") for name in ETC if name in facts.etc)),
        *_proc(facts),
        *("--dev", "/dev", "--bind", str(folder.shm), "/dev/shm"),  # noqa: S108 (inside the sandbox)
        *("--ro-bind", str(facts.memory_folder), facts.memory_mount),
        *("--ro-bind", spec.image, layout.SANDBOX_DIR),
        *("--symlink", layout.NODE_MODULES[1], layout.NODE_MODULES[0]),
        *("--bind", str(folder.tmp), layout.TMP),
        *("--bind", str(folder.sock), layout.RUN_DIR),
        *("--bind", str(folder.workspace), layout.WORKSPACE),
        *("--remount-ro", "/"),
        "--",
        *SHED,
        *layout.executor_command(spec),
    ]


def etc_files() -> dict[str, str]:
    """The files that /etc has of ours, by name."""
    users = {"sandbox": USER, **{f"sandbox{slot}": USER + 1 + slot for slot in range(MAX_SLOTS)}}
    passwd = ["root:x:0:0:root:/:/usr/sbin/nologin"]
    passwd += [f"{name}:x:{uid}:{USER}::{layout.WORKSPACE}:/bin/sh" for name, uid in users.items()]
    return {
        "passwd": "\n".join(passwd) + "\n",
        "group": f"root:x:0:\nsandbox:x:{USER}:\n",
        "hosts": f"127.0.0.1 localhost {layout.HOSTNAME}\n::1 localhost\n",
        "hostname": layout.HOSTNAME + "\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }


def mount_targets(facts: HostFacts) -> tuple[str, ...]:
    """Where mounts of ours may be, besides those that every sandbox has."""
    own_folders = tuple(f"/{name}" for name, link in facts.root_links.items() if link is None)
    return ("/usr", "/etc", layout.SANDBOX_DIR, *own_folders)


def _system(facts: HostFacts) -> list[str]:
    found = ["--ro-bind", "/usr", "/usr"]
    for name, link in facts.root_links.items():
        found += ["--ro-bind", f"/{name}", f"/{name}"] if link is None else ["--symlink", link, f"/{name}"]
    return found


def _proc(facts: HostFacts) -> list[str]:
    found = ["--proc", "/proc"]
    for name in PROC_READ_ONLY:
        if name in facts.proc:
            found += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in PROC_HIDDEN_FILES:
        if name in facts.proc:
            # bwrap mounts it without devices, so that not even /dev/null can be opened there.
            found += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    for name in PROC_HIDDEN_FOLDERS:
        if name in facts.proc:
            found += ["--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}"]
    return found


def _each(option: str, values: Iterable[tuple[str, ...]]) -> list[str]:
    return [word for value in values for word in (option, *value)]
