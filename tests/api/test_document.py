"""What the service answers is what its OpenAPI document says: every operation once, no field and no header more or less."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client
from jsonschema import Draft202012Validator

from tests.api.client import Api
from tests.platform.test_openapi import OPERATIONS, as_json_schema

# What every answer of the web server has, and what belongs to the bytes rather than to their meaning.
PLAIN = {"Allow", "Content-Type", "Content-Length", "Cache-Control", "Content-Security-Policy", "Cross-Origin-Opener-Policy",
         "Referrer-Policy", "X-Accel-Buffering", "X-Content-Type-Options", "X-Frame-Options", "Vary"}  # fmt: skip
# Only where there is something to say.
AT_TIMES = {"Retry-After", "Preference-Applied", "Idempotent-Replayed", "Content-Disposition"}


class Checked:
    """Asks, and holds each answer to the document."""

    def __init__(self, api: Api) -> None:
        self.api, self.seen = api, set()
        self.document = json.loads(Client().get("/api/schema?format=json").content)
        self.components = as_json_schema(self.document["components"])

    def __call__(self, operation_id: str, status: int, path: str, body: Any = None, **headers: str) -> Any:
        method, template = OPERATIONS[operation_id].split(" ")
        # What was meant is what was asked.
        assert re.fullmatch(re.sub(r"\{\w+\}", ".+", template), path.partition("?")[0])
        answer = self.api.call(
            method, path, body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        self.check(operation_id, status, answer)
        return answer

    def check(self, operation_id: str, status: int, answer: Any) -> None:
        where = f"{operation_id} {status}"
        assert answer.status_code == status, (where, answer.status_code, getattr(answer, "content", b"")[:300])
        self.seen.add(operation_id)
        method, path = OPERATIONS[operation_id].split(" ")
        said = self.document["paths"][f"/api/v1{path}"][method.lower()]["responses"][str(status)]
        documented = set(said.get("headers", {}))
        assert set(answer.headers) - PLAIN <= documented, where
        assert documented - AT_TIMES <= set(answer.headers), where
        if answer.headers.get("Content-Type") == "application/json":
            schema = {**as_json_schema(said["content"]["application/json"]["schema"]), "components": self.components}
            errors = list(Draft202012Validator(schema).iter_errors(answer.json()))
            assert not errors, f"{where}: {errors[0].message} at {list(errors[0].absolute_path)}"


@pytest.mark.bubblewrap
def test_every_operation_answers_as_the_document_says(live: Api) -> None:
    ask = Checked(Api(live.project, scopes=["templates:write"]))
    made = ask(
        "create_session", 201, "/sessions", {"template_id": "python-basic"}, Prefer="wait=30", Idempotency_Key="k"
    )
    ask("create_session", 201, "/sessions", {"template_id": "python-basic"}, Prefer="wait=30", Idempotency_Key="k")
    session = f"/sessions/{made.json()['session_id']}"
    ask("list_sessions", 200, "/sessions")
    ask("get_session", 200, session)
    ask("update_session", 200, session, {"timeout": 600})
    _runs(ask, session)
    _files(ask, session)
    container = f"/containers/{made.json()['container_id']}"
    ask("list_containers", 200, "/containers?status=running")
    ask("get_container", 200, container)
    ask("get_container_logs", 200, f"{container}/logs")
    ask("get_container_stats", 200, f"{container}/stats")
    _templates(ask)
    ask("list_sessions", 400, "/sessions?limit=0")
    ask("list_sessions", 406, "/sessions", Accept="text/html")
    ask("get_session", 404, "/sessions/sess_0000000000000000")
    ask("get_session", 401, session, Authorization="Bearer none")
    ask("terminate_session", 200, session)
    ask("get_session", 200, session)
    assert ask.seen == set(OPERATIONS)


def _runs(ask: Checked, session: str) -> None:
    for code in ("def handler(event): return {}", "1 / 0", "open('a.txt', 'w').write('x')"):
        answer = ask("execute_code", 200, f"{session}/execute", {"language": "python", "code": code}, Prefer="wait=30")
        execution = f"/executions/{answer.json()['execution_id']}"
        ask("get_execution", 200, execution)
        ask("get_execution_status", 200, f"{execution}/status")
        ask("get_execution_result", 200, f"{execution}/result?wait=5")
        ask("stream_execution_events", 200, f"{execution}/events").getvalue()
    sleeps = {"language": "python", "code": "import time\ntime.sleep(60)", "env_vars": {"A": "b"}, "stdin": "x"}
    execution = f"/executions/{ask('execute_code', 200, f'{session}/execute', sleeps).json()['execution_id']}"
    for path in ("", "/status", "/result"):
        ask(
            {"": "get_execution", "/status": "get_execution_status", "/result": "get_execution_result"}[path],
            200,
            execution + path,
        )
    ask("cancel_execution", 200, f"{execution}/cancel")
    ask("list_executions", 200, f"{session}/executions")


def _files(ask: Checked, session: str) -> None:
    ask.check("upload_file", 200, ask.api.upload(session.removeprefix("/sessions/"), "d/x.csv", b"abc"))
    file = f"{session}/files/d/x.csv"
    etag = ask("download_file", 200, file).headers["ETag"]
    ask("download_file", 206, file, Range="bytes=0-1")
    ask("download_file", 304, file, If_None_Match=etag)
    ask("download_file", 412, file, If_Match='"other"')
    ask("download_file", 416, file, Range="bytes=99-")
    ask("download_file", 404, f"{file}x")
    ask("list_files", 200, f"{session}/files")
    ask("list_files", 200, f"{session}/files?archive=tar.gz").getvalue()
    upload = ask("create_upload_url", 200, f"{session}/files/upload-url", {"path": "l.bin"}).json()
    put = ask.api.client.put(upload["url"].partition("testserver")[2], b"zz", "application/octet-stream")
    assert put.status_code in (200, 201, 204), put.content
    ask("complete_upload", 200, f"{session}/files/upload-complete", {"upload_id": upload["upload_id"]})
    ask("delete_file", 204, file)


def _templates(ask: Checked) -> None:
    ask("list_templates", 200, "/templates")
    ask("get_template", 200, "/templates/python-basic")
    ask("create_template", 201, "/templates", {"id": "of-a-test", "name": "Of a test", "languages": ["python"]})
    ask("replace_template", 200, "/templates/of-a-test", {"name": "Another", "languages": ["python"]})
    ask("update_template", 200, "/templates/of-a-test", {"deprecated": True})
    ask("delete_template", 204, "/templates/of-a-test")
    ask("delete_template", 409, "/templates/python-basic")
