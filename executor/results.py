"""The child's side of the result pipe: strict JSON, framed and marked with the run's nonce.

All that is needed after user code has run is bound here beforehand, so that a patched `json` or `os` can't break it.
"""

from __future__ import annotations

import json
import json.encoder
import math
import os
import struct
from typing import Any

MAX_RESULT = 1024 * 1024
MAX_DEPTH = 200
NONCE_BYTES = 16
HEADER = struct.Struct(f"!I{NONCE_BYTES}s")

_write, _isfinite, _getpid, _pack = os.write, math.isfinite, os.getpid, HEADER.pack
_make_encoder: Any = json.encoder.c_make_encoder  # type: ignore[attr-defined]
_quote = json.encoder.encode_basestring


class BadResult(Exception):
    """The value can't be a result; the message says why, in the user's words."""


class TooLarge(Exception):
    """The result is longer than MAX_RESULT bytes of JSON."""


def _refuse(value: object) -> None:
    raise BadResult(f"{type(value).__name__} is not JSON serializable")


def check(value: object) -> None:
    """Raises BadResult for whatever `encode` could not turn into strict JSON without guessing.

    Keys are strings; a dict whose keys are all numbers, booleans or None has them spelled as `json.dumps` does. Mixed
    keys are refused: 1 and "1" would collide. Raises TooLarge for what holds more text than a result may have: turned into JSON it
    would take several times its memory.
    """
    stack = [(value, 1)]
    text = len(value) if isinstance(value, str) else 0
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise BadResult(f"the return value is nested deeper than {MAX_DEPTH} levels, or refers to itself")
        if isinstance(item, float):
            if not _isfinite(item):
                raise BadResult(f"{float.__repr__(item)} has no form in JSON")
        elif isinstance(item, dict):
            strings = sum(isinstance(key, str) for key in item)
            if 0 < strings < len(item):
                raise BadResult("the keys of a dict are of mixed types")
            if not strings:
                _check_keys(item)
            stack.extend((child, depth + 1) for child in item.values() if not isinstance(child, str))
            text += sum(len(child) for child in item.values() if isinstance(child, str))
        elif isinstance(item, (list, tuple)):
            stack.extend((child, depth + 1) for child in item if not isinstance(child, str))
            text += sum(len(child) for child in item if isinstance(child, str))
        elif item is not None and not isinstance(item, (str, int)):
            _refuse(item)
        if text > MAX_RESULT:
            raise TooLarge(f"the return value is more than {text} bytes of JSON; {MAX_RESULT} are allowed")


def _check_keys(item: dict[Any, Any]) -> None:
    for key in item:
        if key is not None and not isinstance(key, (int, float)):
            raise BadResult(f"a dict key of type {type(key).__name__} has no form in JSON")
        if isinstance(key, float) and not _isfinite(key):
            raise BadResult(f"the dict key {float.__repr__(key)} has no form in JSON")


def _dump(value: object) -> bytes:
    encoder = _make_encoder(None, _refuse, _quote, None, ": ", ", ", False, False, False)
    return "".join(encoder(value, 0)).encode("utf-8")


def encode(value: object) -> bytes:
    """The strict JSON text of `value` in UTF-8. Raises BadResult or TooLarge."""
    check(value)
    try:
        text = _dump(value)
    except UnicodeEncodeError:
        raise BadResult("a string holds a lone surrogate, which UTF-8 can't carry") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise BadResult(str(error)) from None
    if len(text) > MAX_RESULT:
        raise TooLarge(f"the return value is {len(text)} bytes of JSON; {MAX_RESULT} are allowed")
    return text


class Channel:
    """Writes frames: length, nonce, JSON. Only the process that made it may: a fork of user code falls silent."""

    def __init__(self, fd: int, nonce: str) -> None:
        self._fd = fd
        self._nonce = bytes.fromhex(nonce)
        self.owner = _getpid()

    def send(self, **message: object) -> None:
        if _getpid() != self.owner:
            return
        body = _dump(message)
        frame = memoryview(_pack(len(body), self._nonce) + body)
        while frame:
            frame = frame[_write(self._fd, frame) :]

    def send_value(self, value: object) -> None:
        """Ends the run with what the handler returned."""
        try:
            self.send(outcome="ok", exit_code=0, return_value=encode(value).decode("utf-8"))
        except BadResult as problem:
            self.refuse("invalid_result", "InvalidResult", str(problem))
        except TooLarge as problem:
            self.refuse("output_limit", "OutputLimit", str(problem))

    def refuse(self, outcome: str, kind: str, message: str) -> None:
        self.send(outcome=outcome, exit_code=0, error={"type": kind, "message": message, "traceback": ""})
