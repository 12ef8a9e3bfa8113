"""What sandboxes may leave on a host, looked for in every place where it could be."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import docker

from tests.e2e.service import Service


def remains(service: Service) -> list[str]:
    """All that a sandbox of this service may leave: processes, mounts, folders, cgroups, containers."""
    state = str(service.state)
    found = [f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines() if state in line]
    found += [f"folder {path}" for path in service.state.glob("sandboxes/*/*/*")]
    found += [f"process {entry.name}" for entry in Path("/proc").glob("[0-9]*") if is_sandbox(command(entry), state)]
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout.splitlines()
    found += [f"loop {line}" for line in loops if state in line]
    instance = (service.state / "instance-id").read_text().strip()[:12]
    found += [
        f"cgroup {folder}" for folder, _, _ in os.walk("/sys/fs/cgroup") if instance in folder and "sbx-" in folder
    ]
    if service.runtime == "docker":
        rows = docker.from_env().containers.list(
            all=True, filters={"label": f"sbx.instance={instance}"}, ignore_removed=True
        )
        found += [f"container {row.short_id}" for row in rows]
    return found


def is_sandbox(line: str, state: str) -> bool:
    return "bwrap" in line and state in line


def command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def traces(service: Service, words: Collection[str]) -> Counter[str]:
    """By kind, what is still there of sandboxes that are gone: `words` are their names and the engine's full ids for them."""
    found: Counter[str] = Counter(dict.fromkeys(KINDS, 0))

    def count(kind: str, text: str) -> None:
        found[kind] += any(word in text for word in words)

    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        count("mounts", line)
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        count("loop devices", _text(backing))
    # Each file system once: hierarchies of version 1, or the one of version 2.
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            if folder.rpartition("/")[2] not in words:
                count("cgroups", name)
    for entry in Path("/proc").glob("[0-9]*/cgroup"):
        count("processes", _text(entry))
    for kind, pattern in (("folders", "sandboxes/**/sbx-*"), ("sockets", "sandboxes/**/*.sock"), ("locks", "locks/*")):
        for path in service.state.glob(pattern):
            count(kind, str(path))
    if service.runtime == "docker":
        client = docker.from_env()
        for row in client.api.containers(all=True):
            count("containers", f"{row['Id']} {row['Names']}")
        client.close()
    return found


KINDS = ("containers", "cgroups", "mounts", "folders", "sockets", "locks", "processes", "loop devices")


def volumes() -> set[str]:
    """Of the engine; sandboxes have none, so none may come."""
    client = docker.from_env()
    try:
        return {volume.name for volume in client.volumes.list()}
    finally:
        client.close()


def descriptors(pids: Collection[int]) -> dict[int, list[str]]:
    """What each of the processes has open."""
    found: dict[int, list[str]] = {}
    for pid in pids:
        try:
            entries = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        found[pid] = [target for entry in entries if (target := _link(entry))]
    return found


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
