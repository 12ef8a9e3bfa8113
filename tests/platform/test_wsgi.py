"""What Django reads of a request before any middleware can answer for it."""

from __future__ import annotations

import io
import json

import pytest

from sandbox_platform.wsgi import application

pytestmark = pytest.mark.django_db


def ask(method: str, content_type: str, **more: str) -> tuple[int, dict[str, str], bytes]:
    """As the web server does, without a token."""
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": "/api/v1/sessions", "QUERY_STRING": "a=%ff&b=\xfc", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_TYPE": content_type, "CONTENT_LENGTH": "2",
        "wsgi.input": io.BytesIO(b"{}"), "wsgi.errors": io.StringIO(), "wsgi.url_scheme": "http", **more,
    }  # fmt: skip
    said: list = []
    body = b"".join(application(environ, lambda *words: said.extend(words)))
    return int(said[0].split()[0]), dict(said[1]), body


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("charset", ["hex", "rot13", "undefined", "punycode", "idna", "utf-16", "nonsense"])
@pytest.mark.parametrize(
    "form", ["text/plain; charset={}", "application/json; x*={}''%41%ff", "multipart/form-data; boundary=b; charset={}"]
)
def test_a_content_type_that_names_an_odd_encoding_is_no_error_of_ours(method: str, charset: str, form: str) -> None:
    status, headers, body = ask(method, form.format(charset))
    answer = json.loads(body)
    assert (status, answer["error_code"]) == (401, "Sandbox.Unauthorized")
    assert headers["X-Request-ID"] == answer["request_id"]


@pytest.mark.parametrize("name", ["hex", "undefined"])
def test_nor_is_an_accept_header_that_does(name: str) -> None:
    assert ask("GET", "", HTTP_ACCEPT=f"application/json; x*={name}''%41%ff")[0] in (401, 406)
