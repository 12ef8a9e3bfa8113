"""The executor's own files, as they go into every image."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from django.conf import settings

EXECUTOR = Path(settings.BASE_DIR) / "executor"
DOCKERFILE = EXECUTOR / "Dockerfile"
# Raised when the way of building changes without any of its ingredients.
BUILDER_VERSION = 1
SUFFIXES = {".py", ".js", ".json"}


def executor_files() -> list[Path]:
    """What the executor needs to run, sorted."""
    found = (path for path in EXECUTOR.rglob("*") if path.suffix in SUFFIXES and "__pycache__" not in path.parts)
    return sorted(path for path in found if path.is_file())


def copy_executor(target: Path) -> None:
    """Copy them to `target`, a new folder, readable by all whatever this process's umask is."""
    for source in executor_files():
        copy = target / source.relative_to(EXECUTOR)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def fingerprint(**ingredients: object) -> str:
    """SHA-256 of the executor, the builder's version and the other ingredients, in hex."""
    digest = hashlib.sha256(json.dumps([BUILDER_VERSION, ingredients], sort_keys=True).encode())
    for path in executor_files():
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(EXECUTOR)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def open_to_all(folder: Path) -> None:
    """chmod -R u=rwX,go=rX: sandboxes read as other users, and nothing in an image is setuid."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o111
            path.chmod(0o755 if executable else 0o644)
