"""A client that stalls does not keep a thread of the web server for ever, whichever way the bytes should go."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser, wsgi

from sandbox_platform.supervisor import gunicorn_conf
from sandbox_platform.wsgi import application
from sessions_app.models import Session
from sessions_app.services import storage
from tests.api.client import Api
from tests.factories import SessionFactory

Connection = tuple[socket.socket, socket.socket]
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nxx'


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """The client's end and the server's, as its threads have it."""
    monkeypatch.setattr(gunicorn_conf, "SEND_PATIENCE", 1)
    monkeypatch.setattr(gunicorn_conf, "RECEIVE_PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gunicorn_conf.when_ready(SimpleNamespace(LISTENERS=[SimpleNamespace(sock=listener)]))
        with socket.create_connection(listener.getsockname()) as client:
            accepted, _ = listener.accept()
            with accepted:
                accepted.setblocking(True)
                yield client, accepted


@pytest.fixture
def api(transactional_db: None) -> Api:
    return Api()


def test_one_who_takes_nothing_is_given_up(connection: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(BlockingIOError):
        connection[1].sendall(bytes(64 * 2**20))
    assert 0.5 < time.monotonic() - began < 20


def test_one_who_does_not_end_its_headers_is_given_up(connection: Connection) -> None:
    client, accepted = connection
    client.sendall(b"GET / HTTP/1.1\r\nHost: loc")
    with pytest.raises(BlockingIOError):
        next(RequestParser(Config(), accepted, client.getsockname()))


def request(api: Api, session: Session, which: str) -> tuple[str, str, bytes]:
    """Method and path, headers, and what is sent of a body of 1,000 bytes."""
    url = f"/api/v1/sessions/{session.pk}"
    token = f"Authorization: Bearer {api.token}\r\n"
    match which:
        case "json":
            return f"PATCH {url}", f"{token}Content-Type: application/json\r\n", b'{"timeout": '
        case "form":
            return f"POST {url}/files/upload", f"{token}Content-Type: multipart/form-data; boundary=b\r\n", FORM
        case "link":
            link = api.post(f"/sessions/{session.pk}/files/upload-url", {"path": "a"}).json()["url"]
            return f"PUT {link.removeprefix('http://testserver')}", "", b"xx"
        case _:
            return (
                "POST /admin/login/",
                "Content-Type: application/x-www-form-urlencoded\r\nCookie: csrftoken=" + "a" * 32 + "\r\n",
                b"a=1",
            )


@pytest.mark.parametrize(("which", "status"), [("json", 400), ("form", 400), ("link", 400), ("admin", 403)])
def test_one_who_stalls_in_a_body_gets_its_answer(connection: Connection, api: Api, which: str, status: int) -> None:
    client, accepted = connection
    session = SessionFactory(project=api.project, running=True)
    line, headers, part = request(api, session, which)
    client.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 1000\r\n\r\n".encode() + part)
    address = client.getsockname()
    parsed = next(RequestParser(Config(), accepted, address))
    _, environ = wsgi.create(parsed, accepted, address, accepted.getsockname(), Config())
    said: list[str] = []
    body = b"".join(application(environ, lambda status, headers: said.append(status)))
    assert int(said[0].split()[0]) == status, body
    if status == 400:
        assert json.loads(body)["error_code"] == "Sandbox.InvalidParameter"
    # Nor does the server wait for the rest of it before the next request.
    accepted.settimeout(0)
    assert accepted.recv(1) == b""
    store = storage.current()
    assert isinstance(store, storage.Folder) and not list(store._root.glob("tmp/*"))
