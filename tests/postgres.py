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


@contextmanager
def server(durable: bool = False) -> Iterator[str]:
    """Its URL. `durable` as in service, with fsync; tests do without.

    Raises RuntimeError where there is no server to start, or it does not come up.
    """
    programs = binaries()
    if programs is None:
        raise RuntimeError("no PostgreSQL server is installed")
    with tempfile.TemporaryDirectory(prefix="sbxpg-") as name:
        folder, owner = Path(name), _owner()
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        init = [programs / "initdb", "-D", folder / "data", "-U", "sandbox", "-A", "trust", "-E", "UTF8", "--no-sync"]
        done = subprocess.run(init, cwd=folder, capture_output=True, text=True, **owner)
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr.strip()[-500:]}")
        options = [
            "-c",
            "listen_addresses=",
            "-c",
            f"fsync={'on' if durable else 'off'}",
            "-c",
            "max_connections=200",
            "-k",
            str(folder),
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *options], cwd=folder, stdout=log, stderr=log, **owner
            )
        try:
            url = f"postgresql://sandbox@{quote(str(folder), safe='')}/postgres"
            _await(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGINT)  # "fast": does not wait for clients
            process.wait(30)


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
