"""The vocabulary that drivers and their callers share. Plain values, no behaviour worth a name."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


class SandboxState(StrEnum):
    """What the engine says of a sandbox."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True)
class Resources:
    """Limits of one sandbox: cpu in cores (1.5), the others in bytes and counts."""

    cpu: float = 1.0
    memory: int = 512 * MIB
    disk: int = 1024 * MIB
    inodes: int = 100_000
    pids: int = 256


@dataclass(frozen=True)
class SandboxSpec:
    """What to make. `name` is ours and unique ("sbx-<hex>"): creating the same name twice gives the same sandbox.

    `image` is what the driver's image builder recorded for the template: an image id for Docker, a folder for
    bubblewrap. `oci_runtime` is Docker's ("runc", "runsc"). `figures`: matplotlib figures that a run leaves open become
    files. `egress`: a port of its loopback leads to whoever calls in at its `egress.sock`. `boot_timeout` is in seconds,
    from the call to a ready executor.
    """

    name: str
    image: str
    resources: Resources = field(default_factory=Resources)
    slots: int = 4
    preload: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    oci_runtime: str = "runc"
    figures: bool = False
    egress: bool = False
    boot_timeout: float = 30.0


@dataclass(frozen=True)
class Sandbox:
    """One sandbox as the engine sees it.

    `ref` is the engine's own id, at least 12 hex digits. `socket` is where its executor listens, on this host.
    `isolation` says what was attested (see `attest.py`); `limits_enforced` maps cpu, memory, disk, inodes and pids to
    how they are enforced ("cgroup", "ext4", "tmpfs", "none", ...). Both are empty where the sandbox was only listed.
    """

    ref: str
    name: str
    state: SandboxState
    socket: Path
    created_at: dt.datetime
    labels: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    oom_killed: bool = False
    isolation: dict[str, Any] = field(default_factory=dict)
    limits_enforced: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SandboxStats:
    """A moment's figures: cpu time since the start in seconds, the others in bytes and counts."""

    cpu_seconds: float
    memory_bytes: int
    memory_peak_bytes: int
    pids: int
    oom_kills: int
