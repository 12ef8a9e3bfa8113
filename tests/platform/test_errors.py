"""One envelope for every kind of failure, and a request id on everything."""

import re
from typing import Any

import pytest
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404
from django.test import Client

from sandbox_platform.errors import KINDS, ApiError
from tests.api.client import Api, error_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/v1", "/api/v1/", "/api/v2/sessions", "/api/v1/nothing", "/api/v1/sessions/", "/api/v1/templates/x/", "/%00", "/é",
     "/api/v1/sessions/a/b/c", "//", "/api/v1//sessions", "/favicon.ico", "/.env", "/api/v1/sessions/x/files/", "/health/",
     "/static/nope.js"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_404(api: Api, path: str, method: str) -> None:
    answer = Client(raise_request_exception=False, enforce_csrf_checks=True).generic(method, path)
    error_of(answer, 404, "NotFound")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*", "text/plain;q=0.5", "nonsense"])
def test_what_can_not_be_given_is_406(api: Api, accept: str) -> None:
    error_of(api.get("/sessions", Accept=accept), 406, "NotAcceptable")


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/*", "text/html,*/*;q=0.1"])
def test_json_is_given(api: Api, accept: str) -> None:
    answer = api.get("/sessions", Accept=accept)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret-path"), 500, "InternalError"), (KeyError("secret-path"), 500, "InternalError"),
        (RecursionError("secret-path"), 500, "InternalError"), (UnicodeEncodeError("utf-8", "secret", 0, 1, "x"), 500, "InternalError"),
        (OperationalError("secret-path"), 503, "ServiceUnavailable"), (InterfaceError("secret-path"), 503, "ServiceUnavailable"),
        (DatabaseError("secret-path"), 500, "InternalError"), (IntegrityError("secret-path"), 500, "InternalError"),
        (Http404("secret-path"), 404, "NotFound"), (SuspiciousOperation("secret-path"), 400, "InvalidParameter"),
        (RequestDataTooBig("secret-path"), 413, "PayloadTooLarge"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)  # fmt: skip
def test_whatever_is_raised_is_translated_and_tells_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr("sessions_app.views.find", fail)
    answer = api.get("/sessions/sess_x")
    error_of(answer, status, code)
    assert b"secret-path" not in answer.content


def test_an_error_outside_of_the_api_is_translated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise RuntimeError("secret-path")

    monkeypatch.setattr("sandbox_platform.metrics.exposition", fail)
    answer = Client(raise_request_exception=False).get("/metrics")
    error_of(answer, 500, "InternalError")


def test_a_database_that_is_gone_while_the_token_is_looked_up_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr("sandbox_platform.auth.BearerAuthentication.live", gone)
    error_of(api.get("/sessions"), 503, "ServiceUnavailable")


def test_the_codes_are_the_contracts() -> None:
    statuses = {
        400: {"InvalidParameter"}, 401: {"Unauthorized"}, 403: {"Forbidden"},
        404: {"SessionNotFound", "ExecutionNotFound", "TemplateNotFound", "ContainerNotFound", "FileNotFound", "NotFound"},
        405: {"MethodNotAllowed"}, 406: {"NotAcceptable"}, 409: {"Conflict"}, 412: {"PreconditionFailed"}, 413: {"PayloadTooLarge"},
        415: {"UnsupportedMediaType"}, 416: {"RangeNotSatisfiable"}, 429: {"RateLimited"}, 500: {"InternalError"},
        503: {"TooManyRequestsExection", "RuntimeUnavailable", "ServiceUnavailable"}, 507: {"DiskFull"},
    }  # fmt: skip
    found: dict[int, set[str]] = {}
    for code, kind in KINDS.items():
        found.setdefault(kind.status, set()).add(code)
    assert found == statuses


@pytest.mark.parametrize("code", ["RateLimited", "RuntimeUnavailable", "ServiceUnavailable", "TooManyRequestsExection"])
def test_what_passes_says_when_to_try_again(code: str) -> None:
    assert int(ApiError(code, "x").headers["Retry-After"]) >= 1
    assert ApiError(code, "x", headers={"Retry-After": "7"}).headers["Retry-After"] == "7"


@pytest.mark.parametrize("sent", ["abc", "a" * 128, "A.b_c:d-1", "0"])
def test_a_sane_request_id_is_taken_over(api: Api, sent: str) -> None:
    for path in ("/sessions", "/sessions/none", "/nothing"):
        assert api.get(path, **{"X-Request-ID": sent}).headers["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "a" * 129, "a b", "a\r\nX-Evil: 1", "é", "<script>", "a/b", "%0a"])
def test_any_other_is_replaced(api: Api, sent: str) -> None:
    answer = api.get("/sessions", **{"X-Request-ID": sent})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert "X-Evil" not in answer.headers


def test_each_request_has_one_of_its_own(api: Api) -> None:
    assert len({api.get("/sessions").headers["X-Request-ID"] for _ in range(20)}) == 20


def test_it_stands_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    api.get("/sessions", **{"X-Request-ID": "find-me"})
    assert "find-me" in caplog.text


def test_security_headers_are_everywhere(api: Api) -> None:
    for path in ("/sessions", "/sessions/none", "/nothing"):
        assert api.get(path).headers["X-Content-Type-Options"] == "nosniff"


def test_api_pages_come_from_here(db: None) -> None:
    client = Client()
    for path in ("/api/docs", "/api/redoc"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert not re.findall(rb'(?:src|href)="(?:https?:)?//', answer.content), path
