"""What others do with the same work, on the same engine and image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import docker

PRINT = "print(1)"
PANDAS = "import pandas; print(pandas.DataFrame({'a': [1]}).sum().to_dict())"


class DockerExec:
    """`docker exec CONTAINER python3 -c CODE` in a container that is up."""

    def __init__(self, image: str, code: str = PRINT) -> None:
        self._code = code
        command = [
            "docker",
            "run",
            "-d",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "sleep",
            "-e",
            f"PYTHONPATH={SITE}",
            image,
            "7200",
        ]
        self._container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def __call__(self) -> None:
        subprocess.run(
            ["docker", "exec", self._container, "python3", "-c", self._code], capture_output=True, check=True
        )

    def close(self) -> None:
        subprocess.run(["docker", "rm", "-f", self._container], capture_output=True, check=True)


SITE = "/opt/sandbox/site"


class DockerRun:
    """`docker run --rm --network none IMAGE python3 -c 'print(1)'`."""

    def __init__(self, image: str) -> None:
        self._command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-c", PRINT]

    def __call__(self) -> None:
        subprocess.run(self._command, capture_output=True, check=True)

    def close(self) -> None:
        """Nothing stays."""


class DockerCopy:
    """`docker cp` of one file into a container that is up, and out of it again."""

    def __init__(self, image: str, source: Path) -> None:
        command = ["docker", "run", "-d", "--rm", "--network", "none", "--entrypoint", "sleep", image, "7200"]
        self._container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        self._source, self._back = source, source.with_name("back")
        self.copy_in()

    def copy_in(self) -> None:
        """To the container."""
        subprocess.run(["docker", "cp", "-q", self._source, f"{self._container}:/big"], capture_output=True, check=True)

    def __call__(self) -> None:
        """And back."""
        subprocess.run(["docker", "cp", "-q", f"{self._container}:/big", self._back], capture_output=True, check=True)

    def close(self) -> None:
        """Remove the container."""
        subprocess.run(["docker", "rm", "-f", self._container], capture_output=True, check=True)


class JupyterKernel:
    """A warm ipykernel: from `execute` to `idle`, by jupyter_client."""

    def __init__(self) -> None:
        from jupyter_client.manager import start_new_kernel

        self._manager, self._client = start_new_kernel(kernel_name="python3")

    def __call__(self) -> None:
        self._client.execute_interactive("1 + 1", output_hook=lambda _: None, timeout=60)

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


class LlmSandbox:
    """llm-sandbox's session on the same image, kept open: one `run` each.

    It calls `python`, which Debian names `python3`, and keeps the image's entrypoint, which here is an executor that ends where it is
    not started as it should be. Without its own environment setup, a pip upgrade, it runs the image's interpreter.
    """

    def __init__(self, image: str) -> None:
        from llm_sandbox import SandboxSession

        self._session: Any = SandboxSession(
            lang="python",
            image=image,
            client=docker.DockerClient(base_url=docker_host()),
            skip_environment_setup=True,
            keep_template=True,
            runtime_configs={"entrypoint": ["sleep", "7200"], "network_mode": "none"},
        )
        self._session.open()
        answer = self._session.execute_command("ln -s /usr/bin/python3 /usr/local/bin/python")
        if answer.exit_code:
            raise RuntimeError(f"no `python` in its container: {answer}")

    def __call__(self) -> None:
        answer = self._session.run(PRINT)
        if answer.exit_code or answer.stdout != "1\n":
            raise RuntimeError(f"llm-sandbox: {answer}")

    def close(self) -> None:
        # Not its own close(), which waits ten seconds for `sleep` to heed SIGTERM.
        self._session.container.remove(force=True)


def available(make: Any, *args: Any) -> Any | None:
    """The peer, or None (and why) where it can't be had here."""
    try:
        peer = make(*args)
        peer()
        return peer
    except Exception as error:
        print(f"  left out: {make.__name__}: {str(error)[:200] or type(error).__name__}", file=sys.stderr)
        return None


def docker_host() -> str:
    """The engine that all of them use."""
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
