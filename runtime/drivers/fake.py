"""A driver without an engine, for tests of whoever uses drivers. What may go wrong has a knob that is named for it."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runtime.drivers import layout, loglines
from runtime.drivers.errors import (
    AttestationFailed,
    BootFailed,
    DriverError,
    EngineUnavailable,
    ImageUnavailable,
    NoCapacity,
    SandboxNotFound,
)
from runtime.drivers.types import Resources, Sandbox, SandboxSpec, SandboxState, SandboxStats


@dataclass
class Knobs:
    """What goes wrong. All can be turned at any time, and hold until they are turned back.

    `slow_create` holds creations back until the event is set. `creates_then_dies` raises after the sandbox was made, as a
    crash of the caller looks to the next one.
    """

    engine_down: bool = False
    image_missing: bool = False
    no_capacity: bool = False
    boot_fails: bool = False
    attestation_fails: bool = False
    remove_fails: bool = False
    update_fails: bool = False
    creates_then_dies: bool = False
    slow_create: threading.Event | None = None


@dataclass
class FakeDriver:
    """Keeps `base.Driver` in memory. `calls` is every call that came, as (verb, name).

    The sockets of its sandboxes do not exist, unless `executor` is given: it is called with the path of the socket, and
    what it returns is entered when the sandbox is made and left when the sandbox ends.
    """

    instance: str = "test"
    state_dir: Path = Path("/nonexistent")
    executor: Callable[[Path], AbstractContextManager[object]] | None = None
    knobs: Knobs = field(default_factory=Knobs)
    name: str = "fake"
    calls: list[tuple[str, str]] = field(default_factory=list)
    specs: dict[str, SandboxSpec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sandboxes: dict[str, Sandbox] = {}
        self._servers: dict[str, AbstractContextManager[object]] = {}
        self._lock = threading.RLock()

    # The verbs, and the check

    def check(self) -> None:
        self._called("check", "")

    def create(self, spec: SandboxSpec) -> Sandbox:
        self._called("create", spec.name)
        if self.knobs.slow_create is not None and not self.knobs.slow_create.wait(spec.boot_timeout):
            raise BootFailed("The sandbox was not ready in time.", "still starting\n")
        self._fail()
        with self._lock:
            found = self._sandboxes.get(spec.name)
            if found is None or found.state is not SandboxState.RUNNING:
                found = self._make(spec)
        if self.knobs.creates_then_dies:
            raise EngineUnavailable("the connection to the engine broke")
        return found

    def update(self, name: str, resources: Resources) -> None:
        self._called("update", name)
        if self.knobs.update_fails:
            raise DriverError("the limits can't be changed")
        if self._find(name).state is not SandboxState.RUNNING:
            raise SandboxNotFound(f"no running sandbox {name}")
        spec = self.specs[name]
        limits = replace(spec.resources, cpu=resources.cpu, memory=resources.memory)
        self.specs[name] = replace(spec, resources=limits)

    def inspect(self, name: str) -> Sandbox:
        self._called("inspect", name)
        return self._find(name)

    def remove(self, name: str) -> None:
        self._called("remove", name)
        if self.knobs.remove_fails:
            raise DriverError("the sandbox can't be removed")
        with self._lock:
            self._end_server(name)
            self._sandboxes.pop(name, None)

    def list(self) -> list[Sandbox]:
        self._called("list", "")
        with self._lock:
            return [replace(item, isolation={}, limits_enforced={}) for item in self._sandboxes.values()]

    def logs(self, name: str, tail: int = 100, since: dt.datetime | None = None) -> str:
        self._called("logs", name)
        begun = self._find(name).created_at
        return (
            "" if since is not None and begun < since else loglines.shown(begun, '{"level": "info", "event": "ready"}')
        )

    def stats(self, name: str) -> SandboxStats:
        self._called("stats", name)
        if self._find(name).state is not SandboxState.RUNNING:
            raise SandboxNotFound(f"no running sandbox {name}")
        return SandboxStats(cpu_seconds=0.5, memory_bytes=1 << 20, memory_peak_bytes=2 << 20, pids=3, oom_kills=0)

    # What happens to sandboxes

    def kill(self, name: str, exit_code: int = 137, oom: bool = False) -> None:
        """It ended by itself."""
        with self._lock:
            self._end_server(name)
            ended = replace(self._find(name), state=SandboxState.EXITED, exit_code=exit_code, oom_killed=oom)
            self._sandboxes[name] = ended

    def lose(self, name: str) -> None:
        """Someone removed it behind our back."""
        with self._lock:
            self._end_server(name)
            del self._sandboxes[name]

    def leave_behind(self, name: str) -> None:
        """A remainder that no caller knows of."""
        with self._lock:
            self._sandboxes[name] = self._sandbox(name, SandboxState.EXITED)

    # Inside

    def _called(self, verb: str, name: str) -> None:
        self.calls.append((verb, name))
        if self.knobs.engine_down:
            raise EngineUnavailable("The engine does not answer.")

    def _fail(self) -> None:
        if self.knobs.image_missing:
            raise ImageUnavailable("no such image")
        if self.knobs.no_capacity:
            raise NoCapacity("no space left on device")
        if self.knobs.boot_fails:
            raise BootFailed("The sandbox ended before its executor was ready.", "Traceback: boom\n")
        if self.knobs.attestation_fails:
            raise AttestationFailed(["seccomp mode 0"])

    def _make(self, spec: SandboxSpec) -> Sandbox:
        made = self._sandbox(spec.name, SandboxState.RUNNING, layout.labels(spec, self.instance))
        self._end_server(spec.name)
        if self.executor is not None:
            made.socket.parent.mkdir(parents=True, exist_ok=True)
            self._servers[spec.name] = self.executor(made.socket)
            self._servers[spec.name].__enter__()
        self.specs[spec.name] = spec
        self._sandboxes[spec.name] = made
        return made

    def _sandbox(self, name: str, state: SandboxState, labels: dict[str, str] | None = None) -> Sandbox:
        isolation: dict[str, Any] = {"driver": self.name, "runtime": self.name, "network": "none"}
        return Sandbox(
            ref=hashlib.sha256(f"{name}/{len(self.calls)}".encode()).hexdigest(),
            name=name,
            state=state,
            socket=self.state_dir / "sandboxes" / name / "sock" / "executor.sock",
            created_at=dt.datetime.now(dt.UTC),
            labels=labels or {},
            isolation=isolation,
            limits_enforced=dict.fromkeys(("cpu", "memory", "disk", "inodes", "pids"), "none"),
        )

    def _find(self, name: str) -> Sandbox:
        with self._lock:
            if name not in self._sandboxes:
                raise SandboxNotFound(f"no sandbox {name}")
            return self._sandboxes[name]

    def _end_server(self, name: str) -> None:
        server = self._servers.pop(name, None)
        if server is not None:
            server.__exit__(None, None, None)
