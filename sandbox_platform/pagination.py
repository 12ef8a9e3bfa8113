"""Lists: `?limit=` 1 to 200 (default 50), `?offset=`, filters that are checked rather than ignored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from rest_framework.request import Request
from rest_framework.response import Response

from sandbox_platform.errors import invalid

DEFAULT, MAXIMUM = 50, 200


def integer(query: QueryDict, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query string. 400 outside `low` to `high`."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
        raise invalid(f"{name}: must be a whole number from {low} to {high}")
    return int(text)


def boolean(query: QueryDict, name: str, default: bool) -> bool:
    """true/1 or false/0. 400 otherwise."""
    text = query.get(name)
    if text is None:
        return default
    if text not in ("true", "1", "false", "0"):
        raise invalid(f"{name}: must be true or false")
    return text in ("true", "1")


def choice(query: QueryDict, name: str, allowed: Collection[str]) -> str | None:
    """One of `allowed`, or None where it is absent. 400 otherwise."""
    value = query.get(name)
    if value is not None and value not in allowed:
        raise invalid(f"{name}: must be one of {', '.join(allowed)}")
    return value


def text(query: QueryDict, name: str, most: int = 200) -> str | None:
    """A short text without NUL, or None where it is absent."""
    value = query.get(name)
    if value is not None and (not value or len(value) > most or "\0" in value):
        raise invalid(f"{name}: must be 1 to {most} characters")
    return value


def known_only(request: Request, *names: str) -> QueryDict:
    """The query string, after checking that it holds nothing but `names`, each once."""
    query = request.query_params
    for name, values in query.lists():
        if name not in names:
            raise invalid(f"{name[:100]}: unknown query parameter; known are {', '.join(names)}")
        if len(values) > 1 and name != "label":
            raise invalid(f"{name}: given more than once")
    return query


def page(request: Request, rows: QuerySet, plural: str, serialize: Callable[[Any], dict[str, Any]]) -> Response:
    """`{"<plural>": [...], "total": N}`, where total counts all that match. Two queries."""
    limit = integer(request.query_params, "limit", DEFAULT, 1, MAXIMUM)
    offset = integer(request.query_params, "offset", 0, 0, 10**9)
    return Response({plural: [serialize(row) for row in rows[offset : offset + limit]], "total": rows.count()})
