"""Uploads by hand, so that they can be of any size without being held, come in pieces, stall, and break off."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

from tests.e2e.service import Service

BOUNDARY = "boundary-of-the-tests"
MIB = 2**20
_BLOCK = hashlib.shake_128(b"bytes of the tests").digest(MIB + 1)


def made(size: int) -> Iterator[bytes]:
    """So many bytes, always the same, that repeat at no power of two."""
    while size > 0:
        yield _BLOCK[: min(size, len(_BLOCK))]
        size -= len(_BLOCK)


def digest(pieces: Iterable[bytes]) -> tuple[int, str]:
    """Size and SHA-256."""
    size, sha = 0, hashlib.sha256()
    for piece in pieces:
        size += len(piece)
        sha.update(piece)
    return size, sha.hexdigest()


class Sending:
    """A multipart upload that is being sent; the form's `path` comes last where `last`."""

    def __init__(
        self, service: Service, session_id: str, path: str | None, size: int, last: bool = False, query: str = ""
    ) -> None:
        where = b"" if path is None else self._part('name="path"') + path.encode() + b"\r\n"
        head = (b"" if last else where) + self._part('name="file"; filename="f"')
        self._tail = b"\r\n" + (where if last else b"") + f"--{BOUNDARY}--\r\n".encode()
        self._connection = http.client.HTTPConnection("localhost", service.port, timeout=120)
        self._connection.putrequest("POST", f"/api/v1/sessions/{session_id}/files/upload{query}")
        self._connection.putheader("Authorization", f"Bearer {service.token}")
        self._connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
        self._connection.putheader("Content-Length", str(len(head) + size + len(self._tail)))
        self._connection.endheaders(head)

    @staticmethod
    def _part(disposition: str) -> bytes:
        return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()

    def send(self, pieces: Iterable[bytes]) -> Sending:
        """Some of the file's bytes."""
        for piece in pieces:
            self._connection.send(piece)
        return self

    def finish(self) -> tuple[int, Any]:
        """The end of the form; status and body of the answer."""
        self._connection.send(self._tail)
        answer = self._connection.getresponse()
        with closing(self._connection):
            return answer.status, json.loads(answer.read())

    def cut(self) -> None:
        """As a client that dies."""
        self._connection.close()


def upload(service: Service, session_id: str, path: str, size: int, last: bool = False) -> tuple[int, Any]:
    """Upload the bytes of `made(size)`."""
    return Sending(service, session_id, path, size, last).send(made(size)).finish()


def download(service: Service, session_id: str, path: str) -> tuple[int, tuple[int, str]]:
    """Status; size and SHA-256 of the body."""
    answer = service.api("GET", f"/sessions/{session_id}/files/{quote(path)}", stream=True)
    with answer:
        return answer.status_code, digest(answer.iter_content(MIB))


def raw(service: Service, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """A request whose path nobody tidies up on the way."""
    with socket.create_connection(("localhost", service.port), timeout=60) as sock:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.token}\r\nConnection: close\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        return answer.status, answer.read()


def new_session(service: Service, **body: Any) -> str:
    """A running session's id."""
    body = {"template_id": "python-basic", "timeout": 3600, **body}
    answer = service.api("POST", "/sessions", json=body, headers={"Prefer": "wait=60"})
    assert answer.status_code == 201 and answer.json()["status"] == "running", answer.text
    return answer.json()["session_id"]


def run(service: Service, session_id: str, code: str, **body: Any) -> dict[str, Any]:
    """The result of a run."""
    body = {"code": code, "language": "python", **body}
    result = service.api("POST", f"/sessions/{session_id}/execute", json=body, headers={"Prefer": "wait=60"}).json()
    while result["status"] in ("submitted", "pending", "running"):
        result = service.api("GET", f"/executions/{result['execution_id']}/result?wait=30").json()
    assert result["status"] == "success", result
    return result


def inside(service: Service, session_id: str) -> list[str]:
    """All that code sees in the workspace, temporary files included."""
    code = "import os\ndef handler(e):\n    return sorted(os.path.join(r, n)[2:] for r, d, f in os.walk('.') for n in d + f)"
    return run(service, session_id, code)["return_value"]


def listed(service: Service, session_id: str) -> dict[str, int]:
    """Paths and sizes, as the API lists them."""
    return {item["path"]: item["size"] for item in service.api("GET", f"/sessions/{session_id}/files").json()["files"]}
