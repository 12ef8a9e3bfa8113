"""The lightest client that is still HTTP: one kept connection a thread."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any


class Client:
    """Calls below /api/v1 with a token, and /health."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self.calls = self.runs = 0
        self.early = 0.0  # seconds that the last answer asks to stay away for, where it came before the end
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def call(self, method: str, path: str, body: Any = None, prefer: str = "", key: str = "") -> Any:
        """The parsed answer. `key` is the Idempotency-Key. Raises RuntimeError for an error."""
        headers = {"Authorization": f"Bearer {self._token}"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if prefer:
            headers["Prefer"] = prefer
        if key:
            headers["Idempotency-Key"] = key
        self.calls += 1
        self._connection.request(method, path, data, headers)
        answer = self._connection.getresponse()
        raw = answer.read()
        self.early = float(answer.headers.get("Retry-After", 0))
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {raw[:300]!r}")
        return json.loads(raw) if raw else None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def session(self, template: str = "python-basic", wait: bool = True, **body: Any) -> str:
        """A session's id, running if `wait`."""
        answer = self.call("POST", "/api/v1/sessions", {"template_id": template, **body}, "wait=60" if wait else "")
        deadline = time.monotonic() + 120
        while wait and answer["status"] != "running":
            if answer["status"] != "creating" or time.monotonic() > deadline:
                raise RuntimeError(f"session: {answer}")
            time.sleep(0.2)
            answer = self.call("GET", f"/api/v1/sessions/{answer['session_id']}")
        return answer["session_id"]

    def end(self, session_id: str) -> None:
        """Terminate it."""
        self.call("DELETE", f"/api/v1/sessions/{session_id}")

    def submit(self, session_id: str, code: str, prefer: str = "", **body: Any) -> Any:
        """The answer to an execution in Python."""
        body = {"language": "python", "code": code, **body}
        return self.call("POST", f"/api/v1/sessions/{session_id}/execute", body, prefer)

    def run(self, session_id: str, code: str, **body: Any) -> Any:
        """The result of a run, by `Prefer: wait`."""
        result = self.submit(session_id, code, "wait=60", **body)
        while result["status"] in ("submitted", "pending", "running"):
            # No place to wait was free: the answer came early, and a good client comes back when it is told to.
            time.sleep(self.early)
            result = self.call("GET", f"/api/v1/executions/{result['execution_id']}/result?wait=60")
        if result["status"] != "success":
            raise RuntimeError(f"run: {result}")
        self.runs += 1
        return result
