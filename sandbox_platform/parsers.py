"""Request bodies: strict JSON, bounded before it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rest_framework.parsers import BaseParser

from sandbox_platform.errors import ApiError, invalid

# The largest body that can be valid: an event and stdin of 1 MiB each, with room for escapes and the code.
MAX_BODY = 8 * 1024 * 1024


def check_length(headers: Any, limit: int) -> None:
    """413 for a body that declares more than `limit` bytes, before a byte of it is read."""
    declared = headers.get("Content-Length") or "0"
    if not declared.isascii() or not declared.isdigit():
        raise invalid("Content-Length is not a number")
    if int(declared) > limit:
        raise ApiError("PayloadTooLarge", f"The request body is larger than {limit} bytes")


def strict_loads(data: bytes) -> Any:
    """JSON as RFC 8259 has it: UTF-8, no NaN or Infinity, no number beyond a double, no duplicate key, no lone surrogate."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(f"The body is not UTF-8: byte {error.start}") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise invalid("The body contains a lone surrogate, which is not text") from None
    except RecursionError:
        raise invalid("The body is nested too deep") from None
    except ValueError as error:
        raise invalid(f"The body is not valid JSON: {error}") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {duplicate[:100]!r}")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


class StrictJSONParser(BaseParser):
    """application/json in UTF-8, an object at the top."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The parsed object. Raises 400, 413 or 415 in our envelope."""
        request = (parser_context or {})["request"]
        charset = _charset(media_type or "")
        if charset not in ("utf-8", "utf8"):
            raise ApiError("UnsupportedMediaType", f"The charset {charset!r} is not supported")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise ApiError("UnsupportedMediaType", "A compressed body is not supported")
        check_length(request.headers, MAX_BODY)
        data = stream.read(MAX_BODY + 1)
        if len(data) > MAX_BODY:
            raise ApiError("PayloadTooLarge", f"The request body is larger than {MAX_BODY} bytes")
        value = strict_loads(data)
        if not isinstance(value, dict):
            raise invalid("The body must be a JSON object")
        return value


def _charset(media_type: str) -> str:
    for parameter in media_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return "utf-8"
