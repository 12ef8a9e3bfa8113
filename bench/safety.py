"""The cost of safety: a run at the executor with the whole hardening profile, beside bare containers of the same image."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import interleave
from bench.peers import docker_host
from runtime.drivers.boot import wait_until_ready
from runtime.drivers.docker import DockerDriver
from runtime.drivers.executor_client import ExecutorClient, RunRequest
from runtime.drivers.layout import executor_command
from runtime.drivers.types import MIB, Resources, SandboxSpec

if TYPE_CHECKING:
    from bench.__main__ import Bench

CODE = "def handler(event):\n    return sum(range(1000))"
HARDENED, BARE, UNCONFINED = "run, hardened", "run, bare `docker run`", "run, bare, without seccomp"


def safety(bench: Bench, rounds: int) -> None:
    """The same runs on three containers, in turn. No service is between."""
    print("The cost of safety")
    image = bench.image("python-basic")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sbxb-")))
        cases = {
            HARDENED: _run(_hardened(stack, folder, image)),
            BARE: _run(_bare(stack, folder / "bare", image)),
            UNCONFINED: _run(_bare(stack, folder / "open", image, "--security-opt", "seccomp=unconfined")),
        }
        bench.report.add(interleave(cases, rounds * 3))
    p, bar = bench.report.p, bench.report.bar
    bar("a run at the executor, hardened / bare container, p50", p(HARDENED) / p(BARE), 1.15, 1.05)
    bar("the same / a bare container without seccomp, p50", p(HARDENED) / p(UNCONFINED), 1.15, 1.05)


def _spec(image: str) -> SandboxSpec:
    resources = Resources(cpu=2.0, memory=512 * MIB, disk=1024 * MIB)
    return SandboxSpec(name=f"sbx-{secrets.token_hex(8)}", image=image, resources=resources, slots=4, boot_timeout=60)


def _hardened(stack: ExitStack, folder: Path, image: str) -> ExecutorClient:
    driver = DockerDriver(f"bench{secrets.token_hex(3)}", folder / "state", docker_host())
    sandbox = driver.create(_spec(image))
    stack.callback(driver.remove, sandbox.name)
    return ExecutorClient(sandbox.socket, members=(sandbox.ref, sandbox.name))


def _bare(stack: ExitStack, folder: Path, image: str, *options: str) -> ExecutorClient:
    """The image and the executor, and nothing else that is not the engine's default."""
    folder.mkdir()
    entry, *arguments = executor_command(_spec(image))
    command = ["docker", "run", "-d", "--network", "none", "--user", "0:0", *options,
               "-v", f"{folder}:/run/sbx", "--tmpfs", "/workspace:exec,mode=2775,uid=20000,gid=20000",
               "--entrypoint", entry, image, *arguments]  # fmt: skip
    ref = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    stack.callback(subprocess.run, ["docker", "rm", "-f", ref], capture_output=True, check=True)
    client = ExecutorClient(folder / "executor.sock", members=(ref,))
    wait_until_ready(folder / "executor.sock", ref, _in(30), alive=lambda: True, log=lambda: "")
    return client


def _in(seconds: float) -> float:
    import time

    return time.monotonic() + seconds


def _run(client: ExecutorClient) -> Callable[[], None]:
    def once() -> None:
        run_id, last = secrets.token_hex(8), None
        for event in client.run(run_id, RunRequest("python", CODE, timeout=20), 30):
            last = event
        client.acknowledge(run_id)
        if getattr(last, "outcome", "") != "ok":
            raise RuntimeError(f"the run ended as {last}")

    return once
