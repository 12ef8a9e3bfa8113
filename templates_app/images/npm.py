"""Packages for JavaScript, by npm, into a folder on this host. Nothing of a package runs here: its scripts are ignored."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from django.conf import settings

from templates_app.images import tools
from templates_app.images.base import BuildFailed, Say

# "lodash", "lodash@4.17.21", "@turf/turf@^7", "left-pad@>=1 <2": from the registry, by version. No tag, which moves; no URL, path, alias.
NAME = r"(?:@[A-Za-z0-9~][\w.~-]*/)?[A-Za-z0-9~][\w.~-]*"
RANGE = r"(?:[\^~=]|[<>]=?)?(?:\d+|[xX*])(?:\.(?:\d+|[xX*])){0,2}(?:-[0-9A-Za-z.-]+)?"
SPEC = re.compile(rf"{NAME}(?:@{RANGE}(?: {RANGE})*)?", re.ASCII)
CPUS = {"x86_64": "x64", "aarch64": "arm64"}
# Seconds.
INSTALL_TIMEOUT = 1800


def split(spec: str) -> tuple[str, str]:
    """Name and range ("*": any) of what SPEC matches."""
    name, _, wanted = spec[1:].partition("@")
    return spec[0] + name, wanted or "*"


def install(packages: tuple[str, ...], machine: str, folder: Path, say: Say) -> None:
    """Fill `folder`/node_modules with them and what they need, for the processor `machine` ("x86_64"). Raises BuildFailed."""
    if not packages:
        return
    npm = shutil.which("npm")
    if not npm:
        raise BuildFailed("npm is missing on this host, and the template has npm packages: apt-get install npm")
    manifest, lock = folder / "package.json", folder / "package-lock.json"
    manifest.write_text(json.dumps({"private": True, "dependencies": dict(map(split, packages))}))
    command = [
        npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-bin-links", "--omit=dev", "--git=/bin/false",
        "--no-audit", "--no-fund", "--no-progress", "--no-update-notifier", "--os=linux", "--libc=glibc",
        f"--cpu={CPUS.get(machine, machine)}", *_source(),
    ]  # fmt: skip
    tools.install(", ".join(packages), command, say, INSTALL_TIMEOUT, folder)
    # What was installed stays written down in node_modules/.package-lock.json, with the hash of each.
    manifest.unlink()
    lock.unlink(missing_ok=True)


def frozen(folder: Path) -> list[str]:
    """What is installed there, as "name@version"."""
    lock = folder / "node_modules" / ".package-lock.json"
    if not lock.exists():
        return []
    found = json.loads(lock.read_text())["packages"]
    return [
        f"{one.get('name') or place.rpartition('node_modules/')[2]}@{one['version']}" for place, one in found.items()
    ]


def _source() -> list[str]:
    if settings.NPM_CACHE_DIR:
        return ["--offline", "--cache", str(Path(settings.NPM_CACHE_DIR).resolve())]
    return ["--cache", str(Path(settings.CACHE_DIR) / "npm")]
