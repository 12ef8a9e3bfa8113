"""A base system from Debian's packages, for engines that can pull nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from templates_app.images import names
from templates_app.images.base import BuildFailed, Say

SUITE = "bookworm"
IMAGE = f"{names.BASE}:{SUITE}"
# What python:3.11-slim has too, and wheels of numpy and the like need.
PACKAGES = "python3,ca-certificates,netbase,tzdata,libstdc++6,libgomp1"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Seconds.
TIMEOUT = 1200
# An older one is made anew: Debian has mended things since.
MAX_AGE = 30 * 24 * 3600
NOT_NEEDED = (
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "var/lib/apt/lists/*",
    "var/cache/apt/*",
)


def possible() -> bool:
    """Whether this host has a tool for it."""
    return os.geteuid() == 0 and bool(shutil.which("mmdebstrap") or shutil.which("debootstrap"))


def tarball(say: Say) -> Path:
    """The base system as a tar file, from the cache folder or made now. Raises BuildFailed."""
    if os.geteuid() != 0:
        raise BuildFailed("Making a base system from Debian packages needs root")
    path = Path(settings.CACHE_DIR) / f"base-{SUITE}.tar"
    with _only_one(path.with_suffix(".lock")):
        if not path.exists() or time.time() - path.stat().st_mtime > MAX_AGE:
            draft = path.with_suffix(".draft")
            draft.unlink(missing_ok=True)
            say(f"Making a base system from Debian {SUITE} packages")
            _make(draft)
            draft.replace(path)
    return path


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(tar: Path) -> None:
    keyring = [f"--keyring={KEYRING}"] if KEYRING.exists() else []
    common = ["--variant=minbase", f"--include={PACKAGES}", *keyring, SUITE]
    if shutil.which("mmdebstrap"):
        excluded = [f"--dpkgopt=path-exclude=/{pattern}" for pattern in NOT_NEEDED]
        _run(["mmdebstrap", "--quiet", "--format=tar", *excluded, *common, str(tar)])
    elif shutil.which("debootstrap"):
        with tempfile.TemporaryDirectory(dir=tar.parent) as scratch:
            _run(["debootstrap", *common, scratch])
            _run(
                [
                    "tar",
                    "--numeric-owner",
                    *(f"--exclude=./{p}" for p in NOT_NEEDED),
                    "-C",
                    scratch,
                    "-cf",
                    str(tar),
                    ".",
                ]
            )
    else:
        raise BuildFailed("Neither mmdebstrap nor debootstrap is installed: apt-get install mmdebstrap")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"{command[0]} took more than {TIMEOUT} s") from None
    if done.returncode != 0:
        raise BuildFailed(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-1000:]}")
