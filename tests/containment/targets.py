"""Where the cases are tried: sandboxes of ours, and a plain `docker run` to compare."""

from __future__ import annotations

import secrets
import subprocess
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runtime.drivers.base import Driver
from runtime.drivers.errors import ExecutorError
from runtime.drivers.executor_client import ExecutorClient, Output, RunRequest
from runtime.drivers.types import MIB, Resources, Sandbox, SandboxSpec

RESOURCES = Resources(cpu=1.0, memory=256 * MIB, disk=64 * MIB, inodes=2000, pids=96)


@dataclass(frozen=True)
class Ran:
    """How a piece of code ended: the executor's outcome ("ok", "timeout", ...), what it printed, and the rest of the result."""

    outcome: str
    stdout: str
    stderr: str
    result: Any = None


class Target(Protocol):
    """Something that runs Python code inside."""

    name: str
    ours: bool  # a sandbox of ours, with an executor and limits

    def run(self, code: str, timeout: float = 20.0) -> Ran:
        """Run it to its end."""

    def close(self) -> None:
        """Remove it."""


class Ours:
    """A sandbox, and a neighbour of it."""

    ours = True

    def __init__(self, name: str, driver: Driver, image: str, oci_runtime: str = "runc") -> None:
        self.name = name
        self.driver = driver
        # gVisor's kernel is in the sandbox's own memory.
        limits = replace(RESOURCES, memory=768 * MIB) if oci_runtime == "runsc" else RESOURCES
        self._spec = {"image": image, "resources": limits, "oci_runtime": oci_runtime, "boot_timeout": 60.0}
        self.sandbox = self.make()

    def make(self, **changes: Any) -> Sandbox:
        """One more."""
        spec = {**self._spec, **changes}
        return self.driver.create(SandboxSpec(name=f"sbx-{secrets.token_hex(8)}", **spec))  # type: ignore[arg-type]

    def revive(self) -> bool:
        """Make it anew if its executor is gone. True if it was."""
        try:
            self.client.health(5)
        except ExecutorError:
            self.driver.remove(self.sandbox.name)
            self.sandbox = self.make()
            return True
        return False

    @property
    def client(self) -> ExecutorClient:
        return ExecutorClient(self.sandbox.socket, members=(self.sandbox.ref, self.sandbox.name))

    def run(self, code: str, timeout: float = 20.0) -> Ran:
        return run_in(self.sandbox, code, timeout)

    def close(self) -> None:
        for sandbox in self.driver.list():
            self.driver.remove(sandbox.name)


def run_in(sandbox: Sandbox, code: str, timeout: float = 20.0) -> Ran:
    """Through its executor."""
    client, run_id = ExecutorClient(sandbox.socket, members=(sandbox.ref, sandbox.name)), secrets.token_hex(8)
    streams = {"stdout": b"", "stderr": b""}
    last: Any = None
    for event in client.run(run_id, RunRequest("python", code, timeout=timeout), timeout + 20):
        if isinstance(event, Output):
            streams[event.stream] += event.data
        last = event
    client.acknowledge(run_id)
    return Ran(
        last.outcome, streams["stdout"].decode(errors="replace"), streams["stderr"].decode(errors="replace"), last
    )


class Plain:
    """`docker run IMAGE`, and `docker exec` in it: what one gets without this service."""

    ours = False

    def __init__(self, name: str, image: str, environment: dict[str, str]) -> None:
        self.name = name
        self._environment = environment
        self._container = f"probe-{secrets.token_hex(6)}"
        # What `docker run` gives; only the number of processes is bounded, so that a fork bomb does not end the comparison.
        command = [
            "docker",
            "run",
            "-d",
            "--name",
            self._container,
            "--pids-limit",
            "2000",
            "--entrypoint",
            "sleep",
            image,
            "3600",
        ]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["docker", "exec", self._container, "mkdir", "-p", "/workspace"], env=environment, check=True)

    def run(self, code: str, timeout: float = 20.0) -> Ran:
        command = [
            "docker",
            "exec",
            "-w",
            "/workspace",
            self._container,
            "timeout",
            "-s",
            "KILL",
            str(timeout),
            "python3",
            "-c",
            code,
        ]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, errors="replace")
        outcome = {0: "ok", 137: "timeout"}.get(done.returncode, "exception")
        return Ran(outcome, done.stdout, done.stderr)

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):
            subprocess.run(
                ["docker", "rm", "-f", self._container], env=self._environment, check=True, stdout=subprocess.DEVNULL
            )
