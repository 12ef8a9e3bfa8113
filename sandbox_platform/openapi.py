"""One decorator for every operation of the API, so that each names its errors and headers the same way."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from sandbox_platform.errors import KINDS


class ErrorSerializer(serializers.Serializer):
    """What every error answers."""

    error_code = serializers.CharField(help_text="Stable, for programs: `Sandbox.<Code>`.")
    description = serializers.CharField(help_text="What the code means.")
    error_detail = serializers.CharField(help_text="What is wrong in this case.")
    solution = serializers.CharField(help_text="What to do about it.")
    request_id = serializers.CharField(help_text="Also in the X-Request-ID header and in the service's logs.")


# What any operation below /api/v1 may answer.
EVERYWHERE = ("InvalidParameter", "Unauthorized", "NotAcceptable", "InternalError", "ServiceUnavailable")
WITH_BODY = ("PayloadTooLarge", "UnsupportedMediaType")

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER,
    description="The same key and body give the first answer again, for 24 h. The same key with another body is 409.",
)  # fmt: skip
PREFER = OpenApiParameter(
    "Prefer", str, OpenApiParameter.HEADER,
    description="`wait=N`, N up to 60: answer when it is done, or after N seconds at the latest.",
    examples=[OpenApiExample("wait", value="wait=30")],
)  # fmt: skip


def whole(least: int, most: int | None = None, default: int | None = None) -> dict[str, Any]:
    """The schema of a whole number."""
    bounds = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return {name: value for name, value in bounds.items() if value is not None}


WAIT = OpenApiParameter("wait", whole(0, 60, 0), description="Wait up to so many seconds for the end.")
LIMIT = OpenApiParameter("limit", whole(1, 200, 50), description="How many, at most.")
OFFSET = OpenApiParameter("offset", whole(0, 10**9, 0), description="How many to pass over.")


def operation(
    operation_id: str,
    summary: str,
    *,
    tag: str,
    responses: Mapping[Any, Any],
    errors: Sequence[str] = (),
    request: Any = None,
    parameters: Sequence[Any] = (),
    examples: Sequence[OpenApiExample] = (),
    description: str = "",
) -> Callable[[Callable], Callable]:
    """Document one method of a view. `errors` are codes of `errors.KINDS` beyond those that any operation may answer."""
    codes = [*EVERYWHERE, *(WITH_BODY if request is not None else ()), *errors]
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys(codes):
        by_status[KINDS[code].status].append(code)
    answers: dict[Any, Any] = dict(responses)
    for status, names in sorted(by_status.items()):
        words = "; ".join(f"`Sandbox.{name}`: {KINDS[name].description}" for name in names)
        shown = [_example(name) for name in names]
        answers[status] = OpenApiResponse(ErrorSerializer, description=words, examples=shown)

    def document(view: Callable) -> Callable:
        """What the view says about itself belongs to its description."""
        words = description or f"{summary}. {inspect.cleandoc(view.__doc__ or '')}".strip()
        return extend_schema(
            operation_id=operation_id, summary=summary, description=words, tags=[tag], request=request,
            responses=answers, parameters=list(parameters), examples=list(examples),
        )(view)  # fmt: skip

    return document


def _example(code: str) -> OpenApiExample:
    kind = KINDS[code]
    body = {
        "error_code": f"Sandbox.{code}",
        "description": kind.description,
        "error_detail": kind.description,
        "solution": kind.solution,
        "request_id": "3f6c1d0e9b7a4c55a1f0c2d4e6b8a9f1",
    }
    return OpenApiExample(code, value=body, response_only=True)


def shown(name: str, value: Any, request: bool = False) -> OpenApiExample:
    """An example of an answer (or of a request)."""
    return OpenApiExample(name, value=value, request_only=request, response_only=not request)


TEXT = {(200, "text/plain"): OpenApiTypes.STR}
BINARY = {
    (200, "application/octet-stream"): OpenApiResponse(
        OpenApiTypes.BINARY, description="The file. `Content-Type` is what its name suggests, `text/csv` say."
    )
}
