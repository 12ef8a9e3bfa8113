"""Log files of bounded size, written to by processes that know nothing of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

# Bytes: at a start, and while it is being written.
ROTATE_AT_START, ROTATE_ALWAYS = 5_000_000, 50_000_000


def open_for_append(path: Path) -> int:
    """A descriptor for the log; a long one of earlier days is moved to `<name>.1` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > ROTATE_AT_START:
        path.replace(_older(path))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


def log_here(path: Path) -> None:
    """Have this process's own log lines go there: its console is for people."""
    stream = os.fdopen(open_for_append(path), "a", buffering=1)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)


def trim(path: Path) -> None:
    """Copy a log that has grown too long to `<name>.1` and begin anew: its writers keep their descriptor."""
    if path.exists() and path.stat().st_size > ROTATE_ALWAYS:
        shutil.copyfile(path, _older(path))
        os.truncate(path, 0)


def last_words(path: Path, most: int = 300) -> str:
    """What the last line says, for people: of a JSON line the event and the error."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    if not lines:
        return ""
    try:
        entry = json.loads(lines[-1])
        words = " ".join(str(entry[key]) for key in ("event", "error", "exception") if entry.get(key))
    except (ValueError, TypeError, AttributeError):
        words = lines[-1]
    return words[-most:]


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")
