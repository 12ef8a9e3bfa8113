"""The sandbox's disk, with a limit that the kernel keeps: an ext4 image where we may mount, else a tmpfs.

The image is loop-mounted here, on the host, and handed in as a folder. User code never has the image itself, so it
can't feed the kernel a crafted one. The loop device belongs to the mount ("autoclear") and can't outlive it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import subprocess
from pathlib import Path

from runtime.drivers import mounts
from runtime.drivers.errors import DiskFull, DriverError, NoCapacity, os_errors
from runtime.drivers.state import StateFolder
from runtime.drivers.types import MIB, Resources

USER = 20000
"""Uid and gid that own the workspace: the executor's `--user-uid`."""
MODE = 0o2775
INODE_SIZE = 256
TIMEOUT = 20.0
"""Seconds that mkfs, mount or umount may take."""
EXT4_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_WITHOUT_FLUSH = struct.pack("=I", 2)
_mounted = False
"""Whether this process has mounted one. What failed once is tried again."""


def tmpfs_size(resources: Resources) -> int:
    """Bytes of a workspace in memory.

    Half of the memory limit at most: a full disk must say ENOSPC, not kill the sandbox.
    """
    return min(resources.disk, resources.memory // 2)


def make_tmpfs(target: Path, resources: Resources) -> None:
    """Mount an empty workspace in memory. Raises `NoCapacity`."""
    mounts.tmpfs(target, tmpfs_size(resources), resources.inodes, MODE, USER, executable=True)


def make(image: Path, target: Path, resources: Resources) -> None:
    """Make an empty ext4 of the wanted size and number of files and mount it at `target`. Raises `NoCapacity`."""
    # The inode tables are ours to pay for, not the user's.
    size = resources.disk + resources.inodes * INODE_SIZE + 2 * MIB
    descriptor = os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(descriptor, size)
    finally:
        os.close(descriptor)
    _run(
        "mkfs.ext4", "-q", "-F", "-b", "4096", "-I", str(INODE_SIZE), "-N", str(resources.inodes), "-m", "0",
        "-O", "^has_journal,^resize_inode,^huge_file", "-E", "lazy_itable_init=1,nodiscard", str(image),
    )  # fmt: skip
    # Without barriers a sync stays in memory: what is in here does not outlive the host anyway.
    _run("mount", "-t", "ext4", "-o", "loop,nosuid,nodev,noatime,nobarrier", str(image), str(target))
    (target / "lost+found").rmdir()
    os.chown(target, USER, USER)
    target.chmod(MODE)


def clear(folder: Path) -> None:
    """Unmount all that is mounted in a sandbox's folder, in a moment whatever is in there."""
    for target, kind in mounts.below(folder):
        if kind == "ext4":
            _shut_down(target)
        mounts.unmount(target)


def can_mount(state: StateFolder) -> bool:
    """Whether this process may loop-mount an image there: tried on a small one until that has worked once.

    False where it can't be done on this host. Raises `NoCapacity` where it could not be done just now: to take memory for a disk, for that
    reason, would be another sandbox than was asked for.
    """
    global _mounted
    if os.geteuid() != 0 or not os.access("/dev/loop-control", os.W_OK):
        return False
    try:
        if not _mounted:
            _try_mount(state)
            _mounted = True
    except DriverError as error:
        if error.transient:
            raise
        return False
    return True


def _try_mount(state: StateFolder) -> None:
    """In a folder like a sandbox's: what a crash leaves of it is swept with theirs."""
    folder = state.folder(f"probe-{secrets.token_hex(8)}")
    with os_errors(), state.lock(folder.name, TIMEOUT):
        try:
            folder.make()
            make(folder.image, folder.workspace, Resources(disk=2 * MIB, inodes=64))
        finally:
            clear(folder.path)
            folder.delete()


def _lasting(words: str) -> bool:
    """Whether what mkfs or mount said will be no different the next time: no right to mount, no ext4, no device files for loops."""
    if "failed to setup loop device" in words:
        return not any(Path("/dev").glob("loop[0-9]*"))
    return any(fault in words for fault in ("permission denied", "not permitted", "unknown filesystem type"))


def _shut_down(target: Path) -> None:
    """Tell ext4 to forget what it has not written yet.

    Unmounting gigabytes of fresh files would write them out first.
    """
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, SHUTDOWN_WITHOUT_FLUSH)
    except OSError:
        return  # An older kernel: the unmount takes longer.
    finally:
        os.close(descriptor)


def _run(*command: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT, env=environment)
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip()[:500]
        if _lasting(words.lower()):
            raise DriverError(f"this host can't do it: {command[0]}: {words}") from error
        kind = DiskFull if "no space left" in words.lower() else NoCapacity
        raise kind(f"no room for a workspace: {command[0]}: {words}") from error
    except subprocess.TimeoutExpired as error:
        raise NoCapacity(f"no workspace within {TIMEOUT:.0f} s: {command[0]}") from error
    except FileNotFoundError as error:
        raise DriverError(f"{command[0]} is not installed") from error
