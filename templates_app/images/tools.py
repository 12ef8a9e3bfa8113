"""Run a tool that installs things, with its words passed on while they come."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from pathlib import Path

from templates_app.images.base import BuildFailed, Say

# What any tool may know of this process: where programs and its own settings are, and how the network is reached.
COMMON = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|NETRC|XDG_(CONFIG|CACHE|DATA)_HOME|XDG_CONFIG_DIRS"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|SSL_CLIENT_CERT|NODE_EXTRA_CA_CERTS|NODE_USE_SYSTEM_CA|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|(?i:(http|https|all|no)_proxy)"
)


def environment(own: str) -> dict[str, str]:
    """This process's environment as far as a tool needs it, with the variables that `own` matches too.

    The rest has secrets of the platform, and a tool reads files that come with packages.
    """
    return {name: value for name, value in os.environ.items() if COMMON.fullmatch(name) or re.fullmatch(own, name)}


def install(
    what: str, command: list[str], say: Say, seconds: float, env: dict[str, str], folder: Path | None = None
) -> None:
    """Run it, in `folder`, with `env` alone. Raises BuildFailed, with `what` it was to install and its last words; `say` may raise too."""
    say(f"Installing {what}")
    code, words = _run(command, say, seconds, env, folder)
    if code is None:
        raise BuildFailed(f"Installing {what} took more than {seconds:.0f} s")
    if code != 0:
        raise BuildFailed(f"Installing {what} failed: {last_words(words)}")


def last_words(text: str) -> str:
    """The end of a tool's complaint, without colours and without credentials in addresses."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    return re.sub(r"://[^/@\s]+@", "://", plain)[-1500:]


def _run(
    command: list[str], say: Say, seconds: float, env: dict[str, str], folder: Path | None
) -> tuple[int | None, str]:
    """The exit code (None: out of time) and what was said; each line of it is passed on while it comes. `say` may raise."""
    said, line, end = b"", b"", time.monotonic() + seconds
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, env=env
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
