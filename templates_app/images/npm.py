"""Packages for JavaScript, by npm, into a folder on this host. Nothing of a package runs here: its scripts are ignored."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from templates_app.images import tools
from templates_app.images.base import BuildFailed, Say

# "lodash", "lodash@4.17.21", "@turf/turf@^7", "left-pad@>=1 <2": from the registry, by version. No tag, which moves; no URL, path, alias.
NAME = r"(?:@[A-Za-z0-9~][\w.~-]*/)?[A-Za-z0-9~][\w.~-]*"
RANGE = r"(?:[\^~=]|[<>]=?)?(?:\d+|[xX*])(?:\.(?:\d+|[xX*])){0,2}(?:-[0-9A-Za-z.-]+)?"
SPEC = re.compile(rf"{NAME}(?:@{RANGE}(?: {RANGE})*)?", re.ASCII)
CPUS = {"x86_64": "x64", "aarch64": "arm64"}
# npm's settings, and the two names by which an operator's .npmrc is used to ask for a registry's token.
VARIABLES = r"(?i:npm_config_).+|NPM_TOKEN|NODE_AUTH_TOKEN"
# What npm writes down in place of any registry that stands in for it.
PUBLIC = "registry.npmjs.org"
# Seconds.
CONFIG_TIMEOUT = 60
INSTALL_TIMEOUT = 1800


def split(spec: str) -> tuple[str, str]:
    """Name and range ("*": any) of what SPEC matches."""
    name, _, wanted = spec[1:].partition("@")
    return spec[0] + name, wanted or "*"


def install(packages: tuple[str, ...], machine: str, folder: Path, say: Say) -> None:
    """Fill `folder`/node_modules with them and what they need, for the processor `machine` ("x86_64"). Raises BuildFailed.

    npm works in an empty folder: in `folder` are files of Python packages, and a .npmrc among them would be npm's settings.
    """
    modules = folder / "node_modules"
    if _lock(folder).is_file():
        _lock(folder).unlink()  # a Python package's: only npm's own word counts
    if not packages:
        return
    npm = shutil.which("npm")
    if not npm:
        raise BuildFailed("npm is missing on this host, and the template has npm packages: apt-get install npm")
    with tempfile.TemporaryDirectory(prefix=".npm-", dir=folder.parent) as scratch:
        own = Path(scratch)
        _install(npm, packages, machine, own, say)
        if modules.is_symlink() or modules.is_file():
            modules.unlink()
        elif modules.exists():
            shutil.rmtree(modules)
        if (own / "node_modules").exists():
            (own / "node_modules").rename(modules)


def _install(npm: str, packages: tuple[str, ...], machine: str, folder: Path, say: Say) -> None:
    # What was installed stays written down in node_modules/.package-lock.json, with the hash of each.
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": dict(map(split, packages))}))
    env = tools.environment(VARIABLES)
    command = [
        npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-bin-links", "--omit=dev", "--git=/bin/false",
        "--omit-lockfile-registry-resolved=false", "--no-audit", "--no-fund", "--no-progress", "--no-update-notifier",
        "--os=linux", "--libc=glibc",
        f"--cpu={CPUS.get(machine, machine)}", *_source(),
    ]  # fmt: skip
    tools.install(", ".join(packages), command, say, INSTALL_TIMEOUT, env, folder)
    check(_entries(folder), _registries(npm, folder, env))


def check(entries: dict[str, dict[str, Any]], registries: set[str]) -> None:
    """Raises BuildFailed for one that is not from one of `registries`, hosts like "registry.example:4873".

    A package may name any address or folder for what it needs.
    """
    for place, one in entries.items():
        source = str(one.get("resolved") or "")
        if one.get("inBundle") and not one.get("link") and not source:
            continue  # it came inside the package that needs it
        address = urlsplit(source)
        if (
            one.get("link")
            or address.scheme not in ("https", "http")
            or address.netloc.rpartition("@")[2] not in registries
        ):
            whence = "a folder" if one.get("link") else tools.last_words(source) or "nowhere"
            raise BuildFailed(
                f"{_name(place, one)} would come from {whence}: only packages from the registry are installed. "
                "Name other packages, or other versions, that do without it"
            )


def _registries(npm: str, folder: Path, env: dict[str, str]) -> set[str]:
    """The hosts of those that this host's settings name, scopes' own included."""
    command = [npm, "config", "list", "--json", "--prefix", str(folder)]
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=CONFIG_TIMEOUT, check=True
        )  # fmt: skip
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise BuildFailed("npm does not say which registry it uses: try `npm config list --json`") from error
    named = [value for key, value in found.items() if key == "registry" or key.endswith(":registry")]
    return {PUBLIC, *(urlsplit(str(one)).netloc.rpartition("@")[2] for one in named)}


def frozen(folder: Path) -> list[str]:
    """What is installed there, as "name@version"; a package inside another may have no version, and is "name"."""
    return [
        _name(place, one) + (f"@{one['version']}" if one.get("version") else "")
        for place, one in _entries(folder).items()
    ]


def _lock(folder: Path) -> Path:
    return folder / "node_modules" / ".package-lock.json"


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    """What npm wrote down of each package, by its place ("node_modules/a/node_modules/b"); none where it installed none."""
    lock = _lock(folder)
    found: dict[str, dict[str, Any]] = json.loads(lock.read_text())["packages"] if lock.is_file() else {}
    return found


def _name(place: str, entry: dict[str, Any]) -> str:
    return str(entry.get("name") or place.rpartition("node_modules/")[2])


def _source() -> list[str]:
    if settings.NPM_CACHE_DIR:
        return ["--offline", "--cache", str(Path(settings.NPM_CACHE_DIR).resolve())]
    return ["--cache", str(Path(settings.CACHE_DIR) / "npm")]
