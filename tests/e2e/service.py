"""A whole service of the test's own: `manage.py up` on a free port with a fresh state folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

ROOT = Path(__file__).parents[2]


class Service:
    """Started by `start`, stopped by `stop`; `session` is a requests session with the token."""

    def __init__(self, runtime: str, **environment: str) -> None:
        self.runtime = runtime
        self.state = Path(tempfile.mkdtemp(prefix="sbxe-"))
        self.port = _free_port()
        self.url = f"http://localhost:{self.port}"
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 240) -> None:
        """Until /ready is 200."""
        environment = {
            k: v
            for k, v in os.environ.items()
            if k not in ("DJANGO_SETTINGS_MODULE", "LOG_LEVEL", "DATABASE_URL", "REDIS_URL")
        }
        environment |= {
            "PORT": str(self.port),
            "SANDBOX_STATE_DIR": str(self.state),
            "SANDBOX_RUNTIME": self.runtime,
            **self.environment,
        }
        with (self.state / "console.txt").open("ab") as console:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=ROOT,
                env=environment,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while "Ctrl-C stops it all" not in self.console():
            assert self.process.poll() is None, self.console()
            assert time.monotonic() < deadline, self.console()
            time.sleep(0.1)

    def console(self) -> str:
        """What it has printed."""
        return (self.state / "console.txt").read_text()

    @property
    def token(self) -> str:
        """As an operator would read it."""
        return (self.state / "token").read_text().strip()

    @property
    def session(self) -> requests.Session:
        """With the token set."""
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.token}"
        return session

    def api(self, method: str, path: str, **kwargs: object) -> requests.Response:
        """A call below /api/v1."""
        headers = {"Authorization": f"Bearer {self.token}", **kwargs.pop("headers", {})}  # type: ignore[dict-item]
        return requests.request(method, f"{self.url}/api/v1{path}", headers=headers, timeout=90, **kwargs)  # type: ignore[arg-type]

    def stop(self, number: int = signal.SIGINT) -> None:
        """As Ctrl-C does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def remove(self) -> None:
        """Stop it and forget its state."""
        self.stop()
        shutil.rmtree(self.state, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
