"""Lines of a sandbox's log as people read them: `2026-01-06T10:00:00.361Z [INFO] ready pid=1`.

Whatever runs in a sandbox may have written any of them: each is one line of bounded length, without a character that a terminal or a
browser would act upon.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

MAX_LINE = 4096
"""Characters of one line that are shown."""
LEVELS = frozenset({"debug", "info", "warning", "error"})
# What else stands in a line of the executor is a field.
HEAD = ("time", "level", "event")
PLAIN = re.compile(r"[\w./:@+-]+", re.ASCII)
CUT = " ..."


def shown(when: dt.datetime, line: str) -> str:
    """One line of the log, its end included. What the executor did not write stands behind its time as it is."""
    time = when.astimezone(dt.UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    text = _inert(_words(line[: 4 * MAX_LINE]) or line[: MAX_LINE + 1])
    return f"{time}Z {text if len(text) <= MAX_LINE else text[:MAX_LINE] + CUT}\n"


def fields(line: str) -> dict[str, Any]:
    """Those of a JSON line; none where it is anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(line: str) -> str:
    """A line of the executor in words; nothing if it is none."""
    found = fields(line)
    level, event = found.get("level"), found.get("event")
    if not isinstance(event, str) or not isinstance(level, str) or level not in LEVELS:
        return ""
    rest = [f"{_plain(name)}={_plain(value)}" for name, value in found.items() if name not in HEAD]
    return " ".join([f"[{level.upper()}]", event, *rest])


def _plain(value: Any) -> str:
    """A word as it is, everything else as JSON, so that no value looks like two fields."""
    if isinstance(value, str) and PLAIN.fullmatch(value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return "?"


def _inert(text: str) -> str:
    """Control characters, line ends, marks that turn the direction of text and halves of characters become escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
