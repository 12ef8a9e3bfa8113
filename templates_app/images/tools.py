"""Run a tool that installs things, with its words passed on while they come."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from pathlib import Path

from templates_app.images.base import BuildFailed, Say


def install(what: str, command: list[str], say: Say, seconds: float, folder: Path | None = None) -> None:
    """Run it, in `folder`. Raises BuildFailed, with `what` it was to install and its last words; `say` may raise too."""
    say(f"Installing {what}")
    code, words = _run(command, say, seconds, folder)
    if code is None:
        raise BuildFailed(f"Installing {what} took more than {seconds:.0f} s")
    if code != 0:
        raise BuildFailed(f"Installing {what} failed: {last_words(words)}")


def last_words(text: str) -> str:
    """The end of a tool's complaint, without colours and without credentials in addresses."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    return re.sub(r"://[^/@\s]+@", "://", plain)[-1500:]


def _run(command: list[str], say: Say, seconds: float, folder: Path | None) -> tuple[int | None, str]:
    """The exit code (None: out of time) and what was said; each line of it is passed on while it comes. `say` may raise."""
    said, line, end = b"", b"", time.monotonic() + seconds
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder
    ) as process:
        descriptor = process.stdout.fileno() if process.stdout else -1
        try:
            while time.monotonic() < end:
                if not select.select([descriptor], [], [], 0.5)[0]:
                    say("")
                    continue
                data = os.read(descriptor, 65536)
                if not data:
                    return process.wait(30), said.decode(errors="replace")
                said = (said + data)[-65536:]
                *lines, line = (line + data).split(b"\n")
                for one in lines:
                    say(last_words(one.decode(errors="replace")))
            return None, said.decode(errors="replace")
        finally:
            if process.poll() is None:
                process.kill()
