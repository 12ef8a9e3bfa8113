"""The hosts that a sandbox may reach: what a list may say, what it allows, and whether it is part of another.

Standard library alone: the proxy's helper runs a copy of this file.

An entry is `name` or `name:port`; `*.name` stands for every name below it, not for itself. Without a port it means 80 for plain HTTP and
443 for tunnels (CONNECT); with one, that port alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST = 64
"""Entries of a list."""
LONGEST = 253
"""Characters of a name."""
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
PLAIN, TUNNEL = 80, 443


def entry(text: str) -> str:
    """The entry in its one spelling: lower case, no dot at the end. Raises ValueError with words for who wrote it."""
    shown = text[:80]
    if "/" in text or "@" in text:
        raise ValueError(f"{shown!r}: write the host alone, without a scheme, path or user")
    name, colon, port = text.strip().lower().partition(":")
    if colon and not (_PORT.fullmatch(port) and int(port) <= 65535):
        raise ValueError(f"{shown!r}: what follows the colon must be a port, 1 to 65535; addresses are not allowed")
    name = name.removesuffix(".")
    labels = name.removeprefix("*.").split(".")
    if not name.isascii():
        raise ValueError(f"{shown!r}: write names beyond ASCII in their xn-- form")
    if "*" in "".join(labels):
        raise ValueError(f"{shown!r}: a wildcard is '*.' at the beginning, once")
    if len(name) > LONGEST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{shown!r} is not a host name")
    if len(labels) < 2:
        raise ValueError(f"{shown!r}: write the full name, with its domain")
    if not labels[-1][0].isalpha():
        raise ValueError(f"{shown!r}: addresses are not allowed, only names")
    return name + (f":{int(port)}" if colon else "")


def entries(texts: Iterable[str]) -> list[str]:
    """A whole list: each in its one spelling, once, in the order given. Raises ValueError."""
    found = list(dict.fromkeys(entry(text) for text in texts if text.strip()))
    if len(found) > MOST:
        raise ValueError(f"at most {MOST} hosts")
    return found


def allows(hosts: Iterable[str], name: str, port: int, tunnel: bool) -> bool:
    """Whether a list lets a request through. `tunnel`: it is a CONNECT rather than plain HTTP."""
    if port == (PLAIN if tunnel else TUNNEL):
        return False
    name = name.lower().removesuffix(".")
    usual = port == (TUNNEL if tunnel else PLAIN)
    return any(_names(item, name) and (_port(item) == port or (_port(item) == 0 and usual)) for item in hosts)


def beyond(wanted: Iterable[str], hosts: Iterable[str]) -> list[str]:
    """Those of `wanted` that the list `hosts` does not cover."""
    listed = list(hosts)
    return [item for item in wanted if not any(_covers(other, item) for other in listed)]


def _covers(wide: str, item: str) -> bool:
    ports = _port(wide) == _port(item) or (_port(wide) == 0 and _port(item) in (PLAIN, TUNNEL))
    name = item.partition(":")[0]
    return ports and (name == wide.partition(":")[0] or _names(wide, name.removeprefix("*.")))


def _names(item: str, name: str) -> bool:
    pattern = item.partition(":")[0]
    return name.endswith(pattern[1:]) and name != pattern[1:] if pattern.startswith("*.") else name == pattern


def _port(item: str) -> int:
    return int(item.partition(":")[2] or 0)
