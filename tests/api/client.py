"""A client of the API for tests: Django's own, with a token."""

from __future__ import annotations

import json
import time
from typing import Any

from django.test import Client

from sandbox_platform.models import Project
from tests.factories import issue


class Api:
    """`api.post("/sessions", {...})`: paths below /api/v1, JSON in and out."""

    def __init__(self, project: Project | None = None, **key: Any) -> None:
        self.key, self.token = issue(project, **key)
        self.project = self.key.project
        self.client = Client(raise_request_exception=False)

    def call(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, raw: bytes | None = None,
             content_type: str = "application/json") -> Any:  # fmt: skip
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        everything = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return self.client.generic(method, f"/api/v1{path}", data, content_type, headers=everything)

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        return self.call("POST", path, body, **kwargs)

    def patch(self, path: str, body: Any) -> Any:
        return self.call("PATCH", path, body)

    def put(self, path: str, body: Any) -> Any:
        return self.call("PUT", path, body)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def upload(self, session_id: str, path: str, content: bytes, name: str = "upload.bin") -> Any:
        from django.core.files.uploadedfile import SimpleUploadedFile

        form = {"path": path, "file": SimpleUploadedFile(name, content)}
        return self.client.post(
            f"/api/v1/sessions/{session_id}/files/upload", form, headers={"Authorization": f"Bearer {self.token}"}
        )

    def session(self, **body: Any) -> str:
        """A running session's id."""
        answer = self.post("/sessions", {"template_id": "python-basic", **body}, headers={"Prefer": "wait=30"})
        assert answer.status_code == 201, answer.content
        assert answer.json()["status"] == "running", answer.json()
        return answer.json()["session_id"]

    def run(self, session_id: str, code: str, language: str = "python", **body: Any) -> dict[str, Any]:
        """The result of a run."""
        answer = self.post(
            f"/sessions/{session_id}/execute",
            {"code": code, "language": language, **body},
            headers={"Prefer": "wait=60"},
        )
        assert answer.status_code == 200, answer.content
        result = answer.json()
        while result["status"] in ("submitted", "pending", "running"):
            result = self.get(f"/executions/{result['execution_id']}/result?wait=30").json()
        return result


def error_of(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The envelope, checked."""
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (status, f"Sandbox.{code}"), body
    assert set(body) == {"error_code", "description", "error_detail", "solution", "request_id"}
    assert answer.headers["X-Request-ID"] == body["request_id"]
    assert all(body.values()), body
    if status in (429, 503):
        assert int(answer.headers["Retry-After"]) >= 1
    return body


def eventually(check: Any, seconds: float = 20) -> Any:
    """The first true value of `check()`, asked again and again."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        time.sleep(0.05)
    return value
