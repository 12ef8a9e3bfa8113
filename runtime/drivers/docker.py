"""Sandboxes as Docker containers.

The engine is asked through its API; nothing is ever executed in or copied into one.
"""

from __future__ import annotations

import datetime as dt
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker.errors
import requests
import urllib3
from docker import APIClient

from runtime.drivers import attest, cgroups, layout, loglines, policy, workspace
from runtime.drivers.boot import wait_until_ready
from runtime.drivers.docker_spec import OWN_KERNEL, HostFacts, changeable, container_body
from runtime.drivers.errors import (
    AttestationFailed,
    BootFailed,
    DiskFull,
    DriverError,
    EngineUnavailable,
    ImageUnavailable,
    NoCapacity,
    RuntimeUnsupported,
    SandboxNotFound,
    os_errors,
)
from runtime.drivers.state import SandboxFolder, StateFolder, check_instance
from runtime.drivers.types import Resources, Sandbox, SandboxSpec, SandboxState, SandboxStats

TIMEOUT = 20
"""Seconds that one call to the engine may take."""
PROBE_TIMEOUT = 5
"""Seconds for the question whether it answers at all: asked often, and holds a worker."""
LOCK_MARGIN = 15.0
"""Seconds beyond a boot that another process may hold a sandbox's lock."""
LOG_BYTES = 1024 * 1024
ENGINE_MOUNTS = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")
"""What Docker mounts into every container."""
NO_ROOM = (
    "no space left",
    "device or resource busy",
    "unable to set memory limit",
    "cannot allocate memory",
    "resource temporarily unavailable",
    "too many open files",
)
STATES = {"created": SandboxState.CREATED, "running": SandboxState.RUNNING, "paused": SandboxState.RUNNING}


class DockerDriver:
    """Keeps `base.Driver` on one Docker engine of this host."""

    name = "docker"

    def __init__(self, instance: str, state_dir: Path, url: str | None = None) -> None:
        """`url` is the engine's ("unix:///var/run/docker.sock"); None means DOCKER_HOST, or Docker's own default."""
        self._instance = check_instance(instance)
        self._state = StateFolder(state_dir.absolute(), f"docker/{instance}")
        self._url = url or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._clients: dict[tuple[int, int], APIClient] = {}
        self._guard = threading.Lock()

    # The verbs, and the check

    def check(self) -> None:
        with self._engine(timeout=min(PROBE_TIMEOUT, TIMEOUT)) as api:
            info = api.info()
        if not any(option.startswith("name=seccomp") for option in info.get("SecurityOptions") or ()):
            raise RuntimeUnsupported("This Docker engine has no seccomp: use a kernel with CONFIG_SECCOMP_FILTER.")
        for limit, words in (("MemoryLimit", "memory"), ("PidsLimit", "pids"), ("CpuCfsQuota", "cpu")):
            if not info.get(limit):
                raise RuntimeUnsupported(f"This Docker engine can't limit {words}: enable that cgroup controller.")

    def create(self, spec: SandboxSpec) -> Sandbox:
        end = time.monotonic() + spec.boot_timeout
        folder = self._state.folder(spec.name)
        with os_errors(), self._state.lock(spec.name, spec.boot_timeout + LOCK_MARGIN):
            found = self._existing(folder)
            if found is not None:
                return found
            self._clear(folder)
            try:
                return self._create(spec, folder, end)
            except BaseException:
                self._clear(folder)
                raise

    def update(self, name: str, resources: Resources) -> None:
        with os_errors(), self._state.lock(name, TIMEOUT + LOCK_MARGIN):
            container = self._container(name)
            if container is None or not container["State"]["Running"]:
                raise SandboxNotFound(f"no running sandbox {name}")
            if container["HostConfig"]["Runtime"] in OWN_KERNEL:
                raise RuntimeUnsupported(
                    f"{container['HostConfig']['Runtime']} can't change limits of a running sandbox."
                )
            wanted = changeable(resources)
            if all(container["HostConfig"].get(field) == value for field, value in wanted.items()):
                return
            if cgroups.would_kill(container["State"]["Pid"], resources.memory):
                raise NoCapacity(f"{name} uses more than {resources.memory} bytes already")
            with self._engine(name) as api:
                # Both memory limits together: the engine refuses one that would pass the other.
                api.update_container(
                    container["Id"], cpu_period=wanted["CpuPeriod"], cpu_quota=wanted["CpuQuota"],
                    mem_limit=wanted["Memory"], memswap_limit=wanted["MemorySwap"],
                )  # fmt: skip
                got = api.inspect_container(container["Id"])["HostConfig"]
            wrong = [f"HostConfig.{field}" for field, value in wanted.items() if got.get(field) != value]
            if wrong:
                raise AttestationFailed(wrong)

    def inspect(self, name: str) -> Sandbox:
        folder = self._state.folder(name)
        container = self._container(name)
        if container is None:
            if folder.path.exists() and self._state.owns(folder):
                return self._state.remainder(folder)
            raise SandboxNotFound(f"no sandbox {name}")
        meta = folder.read_meta() or {}
        return self._sandbox(container, folder, meta.get("isolation", {}), meta.get("limits_enforced", {}))

    def remove(self, name: str) -> None:
        folder = self._state.folder(name)
        with os_errors(), self._state.lock(name, TIMEOUT + LOCK_MARGIN):
            self._clear(folder)

    def list(self) -> list[Sandbox]:
        filters = {"label": [f"{layout.LABEL_INSTANCE}={self._instance}", f"{layout.LABEL_MANAGED}=1"]}
        self._state.sweep_locks()
        # The folders first: one whose container appears in between is a sandbox, not a remainder.
        folders = {folder.name: folder for folder in self._state.folders()}
        with self._engine() as api:
            containers = api.containers(all=True, filters=filters)
        found = []
        for container in containers:
            name = container["Labels"].get(layout.LABEL_NAME, "")
            # An image that was committed from a sandbox carries its labels: what is started from it is not ours.
            if f"/{name}" not in container["Names"]:
                continue
            folders.pop(name, None)
            found.append(self._listed(container, self._state.folder(name)))
        return found + [self._state.remainder(folder) for folder in folders.values() if folder.path.exists()]

    def logs(self, name: str, tail: int = 100, since: dt.datetime | None = None) -> str:
        container = self._container(name)
        if container is None:
            raise SandboxNotFound(f"no sandbox {name}")
        with self._engine(name) as api:
            # The stream's own deadline is the engine's: json-file keeps 2 MiB at most.
            raw = api.logs(container["Id"], timestamps=True, tail=tail, since=since, stream=False)
        return "".join(
            loglines.shown(when, line) for when, line in _dated(bytes(raw)) if since is None or when >= since
        )

    def stats(self, name: str) -> SandboxStats:
        container = self._container(name)
        if container is None or not container["State"]["Running"]:
            raise SandboxNotFound(f"no running sandbox {name}")
        with self._engine(name) as api:
            figures = api.stats(container["Id"], stream=False, one_shot=True)
        memory = figures.get("memory_stats") or {}
        usage = int(memory.get("usage", 0))
        return SandboxStats(
            cpu_seconds=figures["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
            memory_bytes=usage,
            memory_peak_bytes=cgroups.memory_peak_of(container["State"]["Pid"]) or int(memory.get("max_usage", usage)),
            pids=int((figures.get("pids_stats") or {}).get("current", 0)),
            oom_kills=cgroups.oom_kills_of(container["State"]["Pid"]),
        )

    # Steps

    def _create(self, spec: SandboxSpec, folder: SandboxFolder, end: float) -> Sandbox:
        self._state.begin(folder)
        mounts = workspace.can_mount(self._state)
        if mounts:
            workspace.make(folder.image, folder.workspace, spec.resources)
        body = container_body(spec, folder, self._facts(spec, mounts))
        with self._engine(spec.name) as api:
            ref = api.create_container_from_config(body, name=spec.name)["Id"]
            inspected = api.inspect_container(ref)
            wrong = attest.engine_mismatches(body, inspected) + policy.mismatches(inspected)
            if wrong:
                raise AttestationFailed(wrong)
            self._start(api, ref)
        health = wait_until_ready(
            folder.socket, ref, end, alive=lambda: self._running(ref), log=lambda: self.logs(spec.name, tail=50)
        )
        gvisor = spec.oci_runtime in OWN_KERNEL
        disk = "ext4" if mounts else "tmpfs"
        expected = attest.Expectation(disk, frozenset({0, os.getegid()}), ENGINE_MOUNTS, gvisor)
        wrong = attest.executor_mismatches(health.attestation, expected)
        if wrong:
            raise AttestationFailed(wrong)
        isolation = attest.isolation(health.attestation, self.name, spec.oci_runtime, gvisor)
        limits = {"cpu": "cgroup", "memory": "cgroup", "pids": "cgroup", "disk": disk, "inodes": disk}
        self._state.finish(folder, {"ref": ref, "isolation": isolation, "limits_enforced": limits})
        return self.inspect(spec.name)

    def _start(self, api: APIClient, ref: str) -> None:
        try:
            api.start(ref)
        except docker.errors.APIError as error:
            words = str(error.explanation)
            if "OCI runtime" in words and not _no_room(words):
                raise BootFailed(f"The container can't be started: {words}") from error
            raise

    def _existing(self, folder: SandboxFolder) -> Sandbox | None:
        """The sandbox of that name if it was made to the end and runs."""
        meta = folder.read_meta()
        container = self._container(folder.name)
        if not meta or not container or meta.get("ref") != container["Id"] or not container["State"]["Running"]:
            return None
        return self._sandbox(container, folder, meta["isolation"], meta["limits_enforced"])

    def _clear(self, folder: SandboxFolder) -> None:
        container = self._container(folder.name)
        if container is not None:
            with self._engine() as api:
                try:
                    api.remove_container(container["Id"], force=True, v=True)
                except docker.errors.NotFound:
                    pass
                except docker.errors.APIError as error:
                    # Another removal is at work on it: wait for its end, so that the folder is free.
                    if error.status_code != 409:
                        raise
                    self._wait_gone(container["Id"])
        if folder.path.exists() and self._state.owns(folder):
            workspace.clear(folder.path)
            folder.delete()

    def _wait_gone(self, ref: str) -> None:
        with self._engine() as api:
            try:
                api.wait(ref, timeout=TIMEOUT, condition="removed")
            except docker.errors.NotFound:
                return

    def _facts(self, spec: SandboxSpec, mounts: bool) -> HostFacts:
        with self._engine() as api:
            info = api.info()
        if spec.oci_runtime not in info.get("Runtimes", {}):
            raise RuntimeUnsupported(
                f"This Docker engine has no runtime {spec.oci_runtime!r}: add it to `runtimes` in its daemon.json"
                " (runsc with the runtimeArgs --host-uds=create, --network=none and --oci-seccomp)."
            )
        apparmor = any(option.startswith("name=apparmor") for option in info.get("SecurityOptions") or ())
        return HostFacts(instance=self._instance, gid=os.getegid(), mounts_workspace=mounts, apparmor=apparmor)

    # The engine

    def _running(self, ref: str) -> bool:
        with self._engine(ref) as api:
            return bool(api.inspect_container(ref)["State"]["Running"])

    def _container(self, name: str) -> dict[str, Any] | None:
        """What inspect says, None where there is no such container of this instance."""
        with self._engine() as api:
            try:
                found: dict[str, Any] = api.inspect_container(name)
            except docker.errors.NotFound:
                return None
        labels = found["Config"].get("Labels") or {}
        ours = labels.get(layout.LABEL_INSTANCE) == self._instance and labels.get(layout.LABEL_NAME) == name
        return found if ours else None

    def _client(self, timeout: int) -> APIClient:
        # A connection must not be shared by a parent and its fork.
        key = (os.getpid(), timeout)
        client = self._clients.get(key)
        if client is None:
            with self._guard:
                client = self._clients.get(key)
                if client is None:
                    client = APIClient(base_url=self._url, version="auto", timeout=timeout)
                    mine = {known: item for known, item in self._clients.items() if known[0] == key[0]}
                    self._clients = {**mine, key: client}
        return client

    @contextmanager
    def _engine(self, name: str = "", timeout: int | None = None) -> Iterator[APIClient]:
        """The client; what it raises inside becomes ours. Each call takes `timeout` seconds at the most.

        Without `name`, an answer "not found" is left to the caller.
        """
        try:
            yield self._client(timeout or TIMEOUT)
        except docker.errors.ImageNotFound as error:
            raise ImageUnavailable(f"no such image: {error.explanation}") from error
        except docker.errors.APIError as error:
            if error.status_code == 404 and name:
                raise SandboxNotFound(f"no sandbox {name}") from error
            raise _translated(error) from error
        except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise EngineUnavailable(f"The Docker engine at {self._url} does not answer: {error}") from error

    # Values

    def _sandbox(
        self, container: dict[str, Any], folder: SandboxFolder, isolation: dict[str, Any], limits: dict[str, str]
    ) -> Sandbox:
        state = container["State"]
        status = STATES.get(state["Status"], SandboxState.EXITED)
        return Sandbox(
            ref=container["Id"],
            name=folder.name,
            state=status,
            socket=folder.socket,
            created_at=_time(container["Created"]),
            labels=container["Config"].get("Labels") or {},
            exit_code=state["ExitCode"] if status is SandboxState.EXITED else None,
            oom_killed=bool(state["OOMKilled"]),
            isolation=isolation,
            limits_enforced=limits,
        )

    def _listed(self, container: dict[str, Any], folder: SandboxFolder) -> Sandbox:
        return Sandbox(
            ref=container["Id"],
            name=folder.name,
            state=STATES.get(container["State"], SandboxState.EXITED),
            socket=folder.socket,
            created_at=dt.datetime.fromtimestamp(container["Created"], dt.UTC),
            labels=container["Labels"],
        )


def _translated(error: docker.errors.APIError) -> DriverError:
    words = str(error.explanation or error)
    if _no_room(words):
        return (DiskFull if "no space left" in words.lower() else NoCapacity)(words)
    if error.status_code is not None and error.status_code >= 500:
        return EngineUnavailable(words)
    return DriverError(words)


def _no_room(words: str) -> bool:
    return any(sign in words.lower() for sign in NO_ROOM)


def _dated(log: bytes) -> Iterator[tuple[dt.datetime, str]]:
    """The last LOG_BYTES of what the engine says: its lines, each with the engine's own time."""
    lines = log[-LOG_BYTES:].decode(errors="replace").split("\n")
    for line in lines[len(log) > LOG_BYTES :]:
        time, _, text = line.partition(" ")
        with suppress(ValueError):  # the end of a line that was too long for the engine has no time
            if text:
                yield _time(time), text


def _time(text: str) -> dt.datetime:
    # The engine writes nanoseconds, which Python reads up to microseconds.
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return dt.datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")
