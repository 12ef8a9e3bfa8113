"""Around every request: its id, one log line, and the envelope for what fails outside a view."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from functools import partial

import structlog
from django.http import HttpRequest, HttpResponse

from sandbox_platform import afterwards, metrics
from sandbox_platform.errors import invalid, translate

log = structlog.get_logger("sandbox.access")
SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
WITHOUT_BODY = frozenset({204, 304})
Handler = Callable[[HttpRequest], HttpResponse]


def request_id_of(request: object) -> str:
    """The id of a Django or DRF request."""
    return getattr(request, "request_id", "")


class RequestIdMiddleware:
    """Takes X-Request-ID where it is sane, else makes one; it stands in every log line, on the answer, and in what is enqueued."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Bind, serve, count, log."""
        sent = request.headers.get("X-Request-ID", "")
        request.request_id = sent if SANE_ID.fullmatch(sent) else uuid.uuid4().hex  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request.request_id)  # type: ignore[attr-defined]
        began = time.perf_counter()
        afterwards.begin()
        response = self.get_response(request)
        seconds = time.perf_counter() - began
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        if not response.streaming and response.status_code not in WITHOUT_BODY:
            response.setdefault("Content-Length", str(len(response.content)))  # else it would be sent in three chunks
        afterwards.afterwards(partial(_tell, request, response.status_code, seconds))
        if response.streaming:  # it may take as long as a run
            afterwards.end()
        else:
            response._resource_closers.append(afterwards.end)  # type: ignore[attr-defined]  # called by the web server behind the last byte
        return response


def _tell(request: HttpRequest, status: int, seconds: float) -> None:
    route = request.resolver_match.route if request.resolver_match else "none"
    method = request.method if request.method in METHODS else "other"  # anybody could invent methods, each a series
    metrics.requests.labels(method, route, status).observe(seconds)
    log.info("request", method=request.method, path=request.path, status=status, ms=round(seconds * 1000, 2))


class ErrorMiddleware:
    """What a view outside DRF raises, and what Django's own layers raise, as the envelope."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Refuse a body of unknown length, which the parsers would take for an empty one; else pass through."""
        if "Transfer-Encoding" in request.headers and not request.headers.get("Content-Length"):
            return invalid("A body needs a Content-Length: chunked transfer is not supported").response(request)
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """The admin keeps Django's own pages."""
        if request.path.startswith("/admin/"):
            return None
        return translate(exception).response(request)
