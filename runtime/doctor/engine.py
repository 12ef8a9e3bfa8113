"""What the Docker engine gives. Judged from its own answers (`docker info`, `docker version`) and from its socket."""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from runtime.doctor.findings import Finding, ok, problem, weak

PATIENCE = 10
"""Seconds that the engine may take for an answer."""
RECOMMENDED = {"Engine": (29, 5, 1), "runc": (1, 3, 6)}
"""Versions without known ways out. Distributions mend older ones in place, so that these are advice."""
RUNSC_ARGUMENTS = frozenset({"--host-uds=create", "--network=none", "--oci-seccomp"})


def ask(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The engine's info and version. Raises ConnectionError."""
    try:
        client = docker.APIClient(base_url=url, version="auto", timeout=PATIENCE)
        try:
            return client.info(), client.version()
        finally:
            client.close()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise ConnectionError(str(error)) from error


def check_engine(info: dict[str, Any], version: dict[str, Any]) -> list[Finding]:
    """Everything that its answers tell."""
    return [
        _version(version),
        _live_restore(info),
        _user_remap(info),
        _gvisor(info),
        _storage(info),
        _swap(info),
    ]


def _version(version: dict[str, Any]) -> Finding:
    versions = {part["Name"]: part["Version"] for part in version.get("Components") or ()}
    words = f"Docker {versions.get('Engine', version.get('Version', '?'))}, runc {versions.get('runc', '?')}."
    old = [name for name, least in RECOMMENDED.items() if _numbers(versions.get(name, "")) < least]
    if not old:
        return ok("engine version", words)
    wanted = " and ".join(f"{name} {'.'.join(map(str, RECOMMENDED[name]))}" for name in old)
    return weak(
        "engine version",
        f"{words} Ways out of older ones are known.",
        f"Upgrade to {wanted}, or your distribution's mended one.",
    )


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)


def _live_restore(info: dict[str, Any]) -> Finding:
    if info.get("LiveRestoreEnabled"):
        return ok("live-restore", "Sandboxes outlive a restart of the engine.")
    words = "Off: when the engine restarts, every sandbox ends, and its session fails as container_lost."
    return weak("live-restore", words, '"live-restore": true in daemon.json, then reload the engine.')


def _user_remap(info: dict[str, Any]) -> Finding:
    if _has(info, "userns") or _has(info, "rootless"):
        return ok("user remapping", "Root of a container is nobody on this host.")
    words = "Off: root of a container is root of the host, with SETUID, SETGID and KILL alone. User code is never root."
    return weak("user remapping", words, 'Nothing is needed; gVisor (oci_runtime "runsc") puts another kernel between.')


def _gvisor(info: dict[str, Any]) -> Finding:
    runtime = (info.get("Runtimes") or {}).get("runsc")
    arguments = set((runtime or {}).get("runtimeArgs") or ())
    flags = ", ".join(f'"{flag}"' for flag in sorted(RUNSC_ARGUMENTS))
    entry = f'"runtimes": {{"runsc": {{"path": "/usr/bin/runsc", "runtimeArgs": [{flags}]}}}}'
    if runtime is None:
        words = 'Not there: templates with oci_runtime "runsc" are refused on this node.'
        return weak("gVisor", words, f"Where you want it: apt-get install runsc, and in daemon.json {entry}")
    if not arguments >= RUNSC_ARGUMENTS:
        lacking = ", ".join(sorted(RUNSC_ARGUMENTS - arguments))
        words = f"The engine's runsc lacks {lacking}: its sandboxes can't be reached, or are refused."
        return problem("gVisor", words, f"In daemon.json: {entry}")
    return ok("gVisor", 'Templates may have oci_runtime "runsc".')


def _swap(info: dict[str, Any]) -> Finding:
    if info.get("SwapLimit"):
        return ok("swap limit", "The engine counts swap towards the memory limit.")
    words = "The engine can't limit swap: what it makes of a sandbox's limits is refused by attestation."
    return problem("swap limit", words, "Boot with swapaccount=1 (cgroups of version 1), restart the engine.")


def _storage(info: dict[str, Any]) -> Finding:
    driver = info.get("Driver", "?")
    if driver == "vfs":
        return weak("image storage", "vfs copies whole images for each sandbox: starts are slow.", "Use overlay2.")
    return ok("image storage", f"{driver}.")


def has_apparmor(info: dict[str, Any]) -> bool:
    """Whether containers get a profile."""
    return _has(info, "apparmor")


def _has(info: dict[str, Any], option: str) -> bool:
    return any(text.startswith(f"name={option}") for text in info.get("SecurityOptions") or ())


def check_socket(url: str) -> Finding:
    """Whoever reaches the engine is root on its host."""
    if url.startswith(("tcp://", "http://")):
        return problem(
            "engine socket", f"{url} is plain TCP: whoever reaches it is root.", "Use a Unix socket or ssh://."
        )
    if not url.startswith("unix://"):
        return ok("engine socket", f"{url}: see who may log in there.")
    path = Path(url.removeprefix("unix://"))
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return problem("engine socket", f"{path}: {error.strerror}.", "Start the engine, or set DOCKER_HOST.")
    if mode & stat.S_IWOTH:
        return problem("engine socket", f"Every user of this host may use {path}: each is root.", f"chmod o= {path}")
    group = "and its group (members are root on this host)" if mode & stat.S_IWGRP else "alone"
    return ok("engine socket", f"{path}: open to its owner {group}.")


def check_mount_namespace(url: str) -> Finding | None:
    """A workspace that we mount must appear to the engine. None where that can't be seen from here."""
    if not url.startswith("unix://"):
        return None
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(url.removeprefix("unix://"))
            pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        shared = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt") if pid else None
    except OSError:
        return None
    if shared is None:
        return None
    if shared:
        return ok("mounts", "The engine sees the workspaces that we mount.")
    return problem(
        "mounts",
        "The engine lives in another mount namespace: it can't see the workspaces that we mount, and attestation fails.",
        "Run the control plane on the engine's host itself (systemd: no PrivateMounts, PrivateTmp or ProtectSystem).",
    )
