"""The log of a sandbox that no engine keeps for us: JSON lines of its executor, and what bwrap had to say."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from runtime.drivers import loglines

MAX_BYTES = 1024 * 1024
KEPT_BYTES = 256 * 1024


def read_log(path: Path, tail: int, since: dt.datetime | None, begun: dt.datetime) -> str:
    """The last `tail` lines from `since` on, each as `loglines.shown`.

    A line's time is its own word, within the sandbox's life; that of the line before, if it has none.
    """
    try:
        lines = _end(path, MAX_BYTES).decode(errors="replace").removesuffix("\n").split("\n")
    except FileNotFoundError:
        return ""
    found, when, now = [], begun, dt.datetime.now(dt.UTC)
    for line in filter(None, lines):
        when = min(max(_time(line) or when, begun), now)
        if since is None or when >= since:
            found.append((when, line))
    return "".join(loglines.shown(*each) for each in (found[-tail:] if tail > 0 else []))


def trim_log(path: Path) -> None:
    """Keep the end of a log that has grown too long. Its writers append, so they go on at the new end."""
    try:
        if path.stat().st_size <= MAX_BYTES:
            return
        kept = _end(path, KEPT_BYTES)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, kept)
    finally:
        os.close(descriptor)


def _end(path: Path, size: int) -> bytes:
    """The last `size` bytes, from the beginning of a line."""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - size))
        data = file.read(size)
    return data if length <= size else data.partition(b"\n")[2]


def _time(line: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(loglines.fields(line)["time"], dt.UTC)
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        return None
