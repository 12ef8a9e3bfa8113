"""What a client is told when something goes wrong: one envelope, a closed list of codes.

Services raise `ApiError`; everything else that reaches the edge is translated here, so that nothing internal is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from rest_framework import exceptions as drf
from rest_framework.response import Response

log = structlog.get_logger(__name__)
# What the database says when it is away, locked, just back, or a copy that takes no writes. Any other error would come again.
OUTAGE = (OperationalError, InterfaceError, InternalError)


class Kind(NamedTuple):
    """One error code: its HTTP status, what it means, and what to do about it unless the place that raises knows better."""

    status: int
    description: str
    solution: str


KINDS: dict[str, Kind] = {
    "InvalidParameter": Kind(
        400, "Invalid request parameter", "Correct the named parameter and send the request again"
    ),
    "Unauthorized": Kind(401, "Authentication required", "Send a valid access token: 'Authorization: Bearer <token>'"),
    "Forbidden": Kind(403, "Not allowed", "Use an access token with the scope that the operation needs"),
    "NotFound": Kind(404, "Not found", "Check the URL; GET /api/docs lists every operation"),
    "SessionNotFound": Kind(404, "Session not found", "Please check the session_id"),
    "ExecutionNotFound": Kind(404, "Execution not found", "Please check the execution_id"),
    "TemplateNotFound": Kind(404, "Template not found", "GET /api/v1/templates lists the templates"),
    "ContainerNotFound": Kind(404, "Container not found", "GET /api/v1/containers lists your containers"),
    "FileNotFound": Kind(404, "File not found", "GET /api/v1/sessions/{id}/files lists the files of the workspace"),
    "MethodNotAllowed": Kind(405, "Method not allowed", "Use one of the methods in the Allow header"),
    "NotAcceptable": Kind(406, "Not acceptable", "Accept application/json"),
    "Conflict": Kind(409, "Conflict", "Look at the resource's present state, then decide"),
    "PreconditionFailed": Kind(412, "Precondition failed", "Fetch the resource again and use its present ETag"),
    "PayloadTooLarge": Kind(413, "Payload too large", "Send less"),
    "UnsupportedMediaType": Kind(415, "Unsupported media type", "Send JSON as application/json in UTF-8, uncompressed"),
    "RangeNotSatisfiable": Kind(416, "Range not satisfiable", "Ask for a range inside the file"),
    "RateLimited": Kind(429, "Too many requests", "Wait as long as Retry-After says"),
    "InternalError": Kind(
        500, "Internal server error", "Try again; if it persists, contact support with the request_id"
    ),
    "TooManyRequestsExection": Kind(
        503, "No available sandbox", "Wait as long as Retry-After says, or end idle sessions"
    ),
    "RuntimeUnavailable": Kind(503, "The sandbox runtime is unavailable", "Try again as Retry-After says"),
    "ServiceUnavailable": Kind(503, "The service is unavailable", "Try again as Retry-After says"),
    "DiskFull": Kind(507, "The workspace is full", "Delete files, or create the session with a larger disk"),
}


class ApiError(Exception):
    """An answer other than success. `detail` says what is wrong in this case; `code` is a key of `KINDS`."""

    def __init__(self, code: str, detail: str, *, solution: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code, self.kind, self.detail = code, KINDS[code], detail
        self.solution = solution or self.kind.solution
        self.headers = dict(headers or {})
        if self.kind.status in (429, 503):
            self.headers.setdefault("Retry-After", "1")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    def body(self, request_id: str) -> dict[str, str]:
        """The envelope."""
        return {
            "error_code": f"Sandbox.{self.code}",
            "description": self.kind.description,
            "error_detail": self.detail,
            "solution": self.solution,
            "request_id": request_id,
        }

    def response(self, request: HttpRequest) -> HttpResponse:
        """The envelope as plain Django answer, for edges that DRF does not reach."""
        body = json.dumps(self.body(getattr(request, "request_id", "")), ensure_ascii=False)
        return HttpResponse(body, status=self.status, content_type="application/json", headers=self.headers)


def invalid(detail: str, solution: str = "") -> ApiError:
    """The 400 of this API."""
    return ApiError("InvalidParameter", detail, solution=solution)


def _flatten(detail: Any, path: str = "") -> list[str]:
    """DRF's nested validation messages as 'field: message' lines."""
    if isinstance(detail, dict):
        return [line for key, value in detail.items() for line in _flatten(value, _join(path, str(key)))]
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        return [line for i, item in enumerate(detail) for line in _flatten(item, f"{path}[{i}]")]
    messages = detail if isinstance(detail, list) else [detail]
    return [f"{path}: {message}" if path else str(message) for message in messages]


def _join(path: str, key: str) -> str:
    return path if key == "non_field_errors" else f"{path}.{key}" if path else key


def translate(exc: BaseException) -> ApiError:
    """Any exception that reached the edge, as what the client is told."""
    match exc:
        case ApiError():
            return exc
        case drf.ValidationError():
            return invalid("; ".join(_flatten(exc.detail))[:2000])
        case drf.ParseError() | BadRequest():
            return invalid(str(exc))
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return ApiError("Unauthorized", str(exc.detail), headers={"WWW-Authenticate": 'Bearer realm="sandbox"'})
        case drf.PermissionDenied():
            return ApiError("Forbidden", str(exc.detail))
        case drf.MethodNotAllowed():
            return ApiError("MethodNotAllowed", str(exc.detail))
        case drf.NotAcceptable():
            return ApiError("NotAcceptable", str(exc.detail))
        case drf.UnsupportedMediaType():
            return ApiError("UnsupportedMediaType", str(exc.detail))
        case UnreadablePostError():
            return invalid("The body ended before its Content-Length, or nothing of it came for too long")
        case RequestDataTooBig():
            return ApiError("PayloadTooLarge", "The request body is too large")
        case Http404() | drf.NotFound():
            return ApiError("NotFound", "No such resource")
        case SuspiciousOperation():
            return invalid("The request was refused as malformed")
        case OperationalError() | InterfaceError():
            log.warning("database_unavailable", error=str(exc))
            return ApiError("ServiceUnavailable", "The database is unavailable", headers={"Retry-After": "2"})
        case DatabaseError():
            log.error("database_error", exc_info=exc)
            return ApiError("InternalError", "The request could not be completed")
        case _:
            log.error("unhandled_exception", exc_info=exc)
            return ApiError("InternalError", "The request could not be completed")


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """DRF's hook."""
    error = translate(exc)
    request = context["request"]
    headers = dict(error.headers)
    if error.status == 405:
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    return Response(error.body(getattr(request, "request_id", "")), status=error.status, headers=headers)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """handler404: no route."""
    return ApiError("NotFound", f"There is nothing at {request.path[:200]}").response(request)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """handler400: Django refused the request before any view (a bad Host header, say)."""
    return invalid("The request was refused as malformed").response(request)


def server_error(request: HttpRequest) -> HttpResponse:
    """handler500: an exception outside DRF."""
    return ApiError("InternalError", "The request could not be completed").response(request)
