"""Strict JSON, and its fields taken one by one: whatever is out of place raises `ExecutorProtocolError`.

Each field is taken out of its mapping, so that what is left over at the end was not in the protocol.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from runtime.drivers.errors import ExecutorProtocolError

MAX_PATH = 4096
MAX_TIME = 253_402_300_799
"""The end of the year 9999 in seconds since 1970: beyond it there are no dates."""


def load_object(raw: bytes) -> dict[str, Any]:
    """An object in strict JSON: UTF-8, no NaN, no Infinity, no key twice, nested no deeper than Python parses."""
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        wrong("a body that is not strict JSON")
    return mapping(value)


def check_json(text: str) -> None:
    """Raise unless `text` is JSON. Numbers stay unread (a million digits are legal), repeated keys are left alone."""
    try:
        json.loads(text, parse_int=_skip, parse_float=_skip, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        wrong("a return value that is not JSON")


def _skip(text: str) -> int:
    return 0


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key twice")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def wrong(what: str) -> NoReturn:
    """What the executor sent is not the protocol; `what` says what it was, after "The executor sent"."""
    raise ExecutorProtocolError(f"The executor sent {what}.")


def take(value: dict[str, Any], key: str) -> Any:
    """The field, of whatever type."""
    try:
        return value.pop(key)
    except KeyError:
        wrong(f"no {key}")


def nothing_else(value: dict[str, Any]) -> None:
    """Raise if something is left over."""
    if value:
        wrong("fields that are not in the protocol")


def _typed(check: Callable[[Any], bool], words: str) -> Callable[[dict[str, Any], str], Any]:
    def typed(value: dict[str, Any], key: str) -> Any:
        found = take(value, key)
        if not check(found):
            wrong(f"{key}, which is not {words}")
        return found

    return typed


# bool is a subclass of int, so types are compared rather than asked for by isinstance.
whole: Callable[[dict[str, Any], str], int] = _typed(
    lambda found: type(found) is int and 0 <= found < 2**63, "a whole number"
)
number: Callable[[dict[str, Any], str], float] = _typed(
    lambda found: type(found) in (int, float) and 0 <= found < 2**63, "a number"
)
moment: Callable[[dict[str, Any], str], float] = _typed(
    lambda found: type(found) in (int, float) and 0 <= found <= MAX_TIME, "a time in the years 1970 to 9999"
)
flag: Callable[[dict[str, Any], str], bool] = _typed(lambda found: type(found) is bool, "true or false")


def mapping(value: object) -> dict[str, Any]:
    """The value, which must be an object."""
    if not isinstance(value, dict):
        wrong("something else than an object")
    return value


def text(value: dict[str, Any], key: str, cap: int) -> str:
    """A text of at most `cap` bytes of UTF-8."""
    found = take(value, key)
    if not isinstance(found, str) or len(found) > cap:
        wrong(f"{key}, which is no text or too long")
    try:
        size = len(found.encode())
    except UnicodeEncodeError:
        wrong(f"{key} with half a character")
    if size > cap:
        wrong(f"{key}, which is too long")
    return found


def optional_text(value: dict[str, Any], key: str, cap: int) -> str | None:
    """The same, or null."""
    if value.get(key, "") is None:
        del value[key]
        return None
    return text(value, key, cap)


def path(value: dict[str, Any], key: str) -> str:
    """A path: not empty, no NUL."""
    found = text(value, key, MAX_PATH)
    if not found or "\0" in found:
        wrong(f"{key}, which is no path")
    return found


def items(value: dict[str, Any], key: str, cap: int) -> list[Any]:
    """A list of at most `cap` items."""
    found = take(value, key)
    if not isinstance(found, list) or len(found) > cap:
        wrong(f"{key}, which is no list or too long")
    return found


def texts(value: dict[str, Any], key: str) -> tuple[str, ...]:
    """A list of short texts."""
    return tuple(text({key: item}, key, MAX_PATH) for item in items(value, key, 10_000))


def mask(value: dict[str, Any], key: str) -> int:
    """A bit mask, written as hexadecimal text."""
    try:
        return int(text(value, key, 32), 16)
    except ValueError:
        wrong(f"{key}, which is no bit mask")
