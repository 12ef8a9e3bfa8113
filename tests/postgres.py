"""A PostgreSQL of the tests' own: a temporary folder, a Unix socket, gone afterwards.

`python -m tests.postgres` prints its URL and serves until it is told to stop.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

START_SECONDS = 30


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class Server:
    """One server in that folder, which must be there and is left there. `durable` as in service, with fsync; tests do without."""

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self.url = f"postgresql://sandbox@{quote(str(folder), safe='')}/postgres"
        self._folder, self._durable = folder, durable
        self._programs = binaries()
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Its data. Raises RuntimeError where there is no server to start."""
        if self._programs is None:
            raise RuntimeError("no PostgreSQL server is installed")
        folder, owner = self._folder, _owner()
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        init = [
            self._programs / "initdb",
            "-D",
            folder / "data",
            "-U",
            "sandbox",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        done = subprocess.run(init, cwd=folder, capture_output=True, text=True, **owner)
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr.strip()[-500:]}")

    def start(self) -> None:
        """Until it answers. Raises RuntimeError where it does not."""
        assert self._programs
        fsync = f"fsync={'on' if self._durable else 'off'}"
        options = ["-c", "listen_addresses=", "-c", fsync, "-c", "max_connections=200", "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *options],
                cwd=self._folder, stdout=log, stderr=log, **_owner(),
            )  # fmt: skip
        _await(self.url, self._process)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT is "fast", it does not wait for clients; SIGQUIT is "immediate", as if the power had gone."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None


@contextmanager
def server(durable: bool = False) -> Iterator[str]:
    """Its URL. Raises RuntimeError where there is no server to start, or it does not come up."""
    with tempfile.TemporaryDirectory(prefix="sbxpg-") as name:
        made = Server(Path(name), durable)
        made.make()
        try:
            made.start()
            yield made.url
        finally:
            made.stop()


def _owner() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL did not come up: {error}") from error
            time.sleep(0.1)


def _serve() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with server() as url:
            print(url, flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    _serve()
