"""The first run: the quickstart's hello, over HTTP, as any client would."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from sandbox_platform.supervisor.console import CannotStart

CODE = (
    'def handler(event):\n    name = event.get("name", "World")\n'
    '    return {\n        "statusCode": 200,\n        "body": f"Hello, {name}!"\n    }'
)
# Seconds: for one request that waits; for all of it.
WAIT, TOTAL = 30, 120


@dataclass(frozen=True)
class Hello:
    """What came back, and after how many seconds: to a running session, to the result."""

    body: str
    up: float
    ran: float


class Api:
    """Requests to the web server that was just started."""

    def __init__(self, token: str = "") -> None:
        self.token = token

    def call(self, method: str, path: str, body: Any = None, wait: int = 0) -> tuple[int, Any]:
        """Status and JSON of the answer. Raises OSError or http.client.HTTPException where there is none."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if wait:
            headers["Prefer"] = f"wait={wait}"
        connection = http.client.HTTPConnection(local_host(), settings.WEB_PORT, timeout=wait + 15)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()


def local_host() -> str:
    """Where this machine reaches its own web server."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.WEB_HOST, settings.WEB_HOST)  # noqa: S104


def run(token: str) -> Hello:
    """Create a session, run the hello in it, end it. Raises CannotStart with what the API said."""
    api, began, end = Api(token), time.monotonic(), time.monotonic() + TOTAL
    session = _expect(api.call("POST", "/api/v1/sessions", {"template_id": "python-basic"}, wait=WAIT))
    path = f"/api/v1/sessions/{session['session_id']}"
    try:
        while session["status"] == "creating" and time.monotonic() < end:
            time.sleep(0.2)
            session = _expect(api.call("GET", path))
        if session["status"] != "running":
            raise CannotStart(
                f"The first session is {session['status']}: {session.get('status_detail') or 'no reason given'}"
            )
        up = time.monotonic()
        order = {"code": CODE, "language": "python", "timeout": 30, "event": {"name": "Alice"}}
        execution = _expect(api.call("POST", f"{path}/execute", order, wait=WAIT))
        result_path = f"/api/v1/executions/{execution['execution_id']}/result?wait={WAIT}"
        result = _expect(api.call("GET", result_path, wait=WAIT))
        while result["status"] in ("pending", "running") and time.monotonic() < end:
            result = _expect(api.call("GET", result_path, wait=WAIT))
        if result["status"] != "success":
            raise CannotStart(f"The first run is {result['status']}: {result.get('error') or result.get('stderr')}")
        return Hello(result["return_value"]["body"], up - began, time.monotonic() - up)
    finally:
        api.call("DELETE", path)


def _expect(answer: tuple[int, Any]) -> dict[str, Any]:
    status, body = answer
    if status not in (200, 201) or not isinstance(body, dict):
        words = body.get("error_detail") or body.get("description") if isinstance(body, dict) else body
        raise CannotStart(f"The API answered {status}: {words}")
    return body
