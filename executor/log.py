"""JSON log lines on stderr. Never called with env values, code or output of a run."""

from __future__ import annotations

import contextlib
import json
import os
import time

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_threshold = LEVELS["info"]


def set_level(name: str) -> None:
    global _threshold
    _threshold = LEVELS[name]


def log(level: str, event: str, **fields: object) -> None:
    if LEVELS[level] < _threshold:
        return
    line = {"time": round(time.time(), 3), "level": level, "event": event, "pid": os.getpid()}
    line.update({key: value for key, value in fields.items() if value is not None})
    with contextlib.suppress(OSError):  # a full or closed log pipe must not stop a run
        os.write(2, json.dumps(line, default=str).encode() + b"\n")
