"""The examples of the OpenAPI document: those of the quickstart, with every field that the answers have. By operation id."""

from __future__ import annotations

import json
from typing import Any

RESOURCES = {"cpu": "1", "memory": "512Mi", "disk": "1Gi"}
LARGER = {"cpu": "2", "memory": "2Gi", "disk": "5Gi"}
ISOLATION = {"driver": "docker", "runtime": "runc", "kernel": "host", "network": "none"}
ENFORCED = {"cpu": "cgroup", "memory": "cgroup", "pids": "cgroup", "disk": "ext4", "inodes": "ext4", "swap": "cgroup"}
SESSION: dict[str, Any] = {
    "session_id": "sess_abc123def4567890", "status": "running", "status_reason": None, "status_detail": "", "template_id": "python-basic",
    "runtime_type": "docker", "runtime_node": "node-01", "container_id": "a1b2c3d4e5f6",
    "workspace_path": "s3://sandbox-workspace/sessions/sess_abc123def4567890/", "resources": RESOURCES, "timeout": 300,
    "max_concurrency": 4, "network": "none", "allowed_hosts": [], "env_vars": ["LOG_LEVEL"], "labels": {},
    "isolation": ISOLATION, "limits_enforced": ENFORCED,
    "created_at": "2026-01-06T10:00:00Z", "started_at": "2026-01-06T10:00:02Z", "expires_at": "2026-01-06T10:05:02Z", "ended_at": None,
}  # fmt: skip
CREATING = {
    **SESSION, "status": "creating", "runtime_node": None, "container_id": None, "started_at": None, "expires_at": None,
    "isolation": {}, "limits_enforced": {},
}  # fmt: skip
EXECUTION_ID = "exec_20260106_abc12345k3v9x2q7"
STATUS: dict[str, Any] = {
    "execution_id": EXECUTION_ID, "session_id": "sess_abc123def4567890", "status": "completed",
    "created_at": "2026-01-06T10:05:00Z", "started_at": "2026-01-06T10:05:01Z", "completed_at": "2026-01-06T10:05:02Z",
}  # fmt: skip
CANCELLED = {**STATUS, "status": "failed"}
CODE = 'def handler(event):\n    name = event.get("name", "World")\n    return {"statusCode": 200, "body": f"Hello, {name}!"}'
OUTCOME: dict[str, Any] = {
    "stdout": "Processing complete.\n", "stderr": "", "stdout_truncated": False, "stderr_truncated": False, "stdout_omitted_bytes": 0,
    "stderr_omitted_bytes": 0, "exit_code": 0, "execution_time": 0.07523, "return_value": {"statusCode": 200, "body": "Hello, Alice!"},
    "metrics": {"duration_ms": 75.23, "cpu_time_ms": 68.12, "peak_memory_mb": 42.5}, "artifacts": [], "artifacts_truncated": False,
    "error": None,
}  # fmt: skip
RESULT = {"execution_id": EXECUTION_ID, "status": "success", **OUTCOME}
EXECUTION: dict[str, Any] = {
    **STATUS, "language": "python", "code": CODE, "event": {"name": "Alice"}, "stdin": None, "args": [], "env_vars": [],
    "working_directory": "", "timeout": 30, "retry_lost": False, **OUTCOME,
}  # fmt: skip
EXECUTION_ITEM = {**STATUS, "language": "python", "exit_code": 0}
FILE = {"path": "data/input.csv", "size": 1024, "modified_at": "2026-01-06T10:04:00Z", "mime_type": "text/csv"}
TIMES = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
BASIC = {
    "id": "python-basic", "name": "Python Basic Environment", "description": "", "image": "registry.local/sandbox/python:3.11-basic",
    "base_image": "python:3.11-slim", "languages": ["python", "shell"], "pre_installed_packages": [], "npm_packages": [], "preload": [],
    "default_resources": RESOURCES, "network": "none", "allowed_hosts": [], "status": "ready", **TIMES,
}  # fmt: skip
SCIENCE = {
    **BASIC, "id": "python-datascience", "name": "Python Data Science", "image": "registry.local/sandbox/python:3.11-datascience",
    "pre_installed_packages": ["numpy>=1.24.0", "pandas>=2.0.0", "scikit-learn>=1.3.0"], "preload": ["numpy", "pandas", "sklearn"],
    "default_resources": LARGER,
}  # fmt: skip
NEW_TEMPLATE = {
    "id": "web-tools", "name": "Web tools", "languages": ["python", "javascript", "shell"], "pre_installed_packages": ["lxml==6.0.2"],
    "npm_packages": ["lodash@4.17.21"], "default_resources": {"memory": "1Gi"},
}  # fmt: skip
MADE_TEMPLATE = {
    **BASIC, **NEW_TEMPLATE, "image": "sandbox/web-tools", "default_resources": {**RESOURCES, "memory": "1Gi"}, "status": "preparing",
}  # fmt: skip
CONTAINER = {
    "container_id": "a1b2c3d4e5f6", "runtime_type": "docker", "runtime_node": "node-01", "status": "running",
    "session_id": "sess_abc123def4567890", "template_id": "python-basic", "resources": RESOURCES, "isolation": ISOLATION,
    "limits_enforced": ENFORCED, "created_at": "2026-01-06T10:00:00Z", "started_at": "2026-01-06T10:00:02Z", "ended_at": None,
    "uptime_seconds": 300,
}  # fmt: skip
STATS = {"cpu_seconds": 1.5, "memory_bytes": 44564480, "memory_peak_bytes": 58720256, "pids": 8, "oom_kills": 0}
LOGS = (
    "2026-01-06T10:00:01.884Z [INFO] listening pid=1 socket=/run/sandbox/exec.sock\n"
    "2026-01-06T10:00:02.361Z [INFO] ready pid=1 preloaded=[]\n"
)
EVENTS = "retry: 1000\n\n" + "".join(
    f"id: {number}\nevent: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
    for number, event, data in (
        (1, "status", {**STATUS, "status": "running", "completed_at": None, "attempt": 1}),
        (21 * 2**46 + 1, "stdout", {"text": OUTCOME["stdout"], "offset": 0}),
        (21 * 2**46 + 2, "status", {**STATUS, "attempt": 1}),
        (21 * 2**46 + 3, "result", RESULT),
    )
)
UPLOAD = {
    "upload_id": "eyJwYXRoIjoi...", "url": "https://files.example.com/sandbox-workspace/incoming/abc?X-Amz-Signature=...", "method": "PUT",
    "headers": {}, "expires_at": "2026-01-06T10:20:00Z",
}  # fmt: skip
WHAT_IS_ASKED: dict[str, dict[str, Any]] = {
    "update_session": {"Ten minutes from now": {"timeout": 600}},
    "create_template": {"With packages": NEW_TEMPLATE},
    "replace_template": {"With packages": {key: value for key, value in NEW_TEMPLATE.items() if key != "id"}},
    "update_template": {"More memory": {"default_resources": {"memory": "1Gi"}}, "Deprecate": {"deprecated": True}},
    "create_upload_url": {"A large file": {"path": "data/large.csv"}},
    "complete_upload": {"As upload-url gave it": {"upload_id": "eyJwYXRoIjoi..."}},
}
WHAT_COMES: dict[str, dict[str, Any]] = {
    "create_session": {"Creating": CREATING, "Running, with Prefer: wait": SESSION},
    "get_session": {"Running": SESSION},
    "update_session": {"Extended": {**SESSION, "timeout": 600}},
    "list_sessions": {"One": {"sessions": [SESSION], "total": 1}},
    "get_execution": {"Completed": EXECUTION},
    "get_execution_status": {"Completed": STATUS},
    "cancel_execution": {"Cancelled": CANCELLED},
    "list_executions": {"One": {"executions": [EXECUTION_ITEM], "total": 1}},
    "stream_execution_events": {"To the end": EVENTS},
    "create_upload_url": {"For 15 minutes": UPLOAD},
    "list_files": {"One": {"files": [FILE], "total": 1, "truncated": False}},
    "complete_upload": {"Stored": {"path": "data/large.csv", "size": 1073741824}},
    "list_templates": {"The seeded ones": {"templates": [BASIC, SCIENCE], "total": 2}},
    "get_template": {"Python Data Science": SCIENCE},
    "create_template": {"In preparation": MADE_TEMPLATE},
    "replace_template": {"In preparation": MADE_TEMPLATE},
    "update_template": {"Changed": {**BASIC, "default_resources": {**RESOURCES, "memory": "1Gi"}}},
    "list_containers": {"One": {"containers": [CONTAINER], "total": 1}},
    "get_container": {"Running": CONTAINER},
    "get_container_logs": {"Ready": LOGS},
    "get_container_stats": {"Now": STATS},
}
HEADERS = {
    "X-Request-ID": "The request's id: the one that was sent, where it is sane. It stands in the service's logs.",
    "Retry-After": "Seconds to wait before the next try.",
    "Location": "The path of what was made.",
    "WWW-Authenticate": "How to authenticate.",
    "Preference-Applied": "`wait=N`, where it was waited for.",
    "Idempotent-Replayed": "`true` where this is the first answer again.",
    "ETag": "Changes with the file.",
    "Last-Modified": "When the file was changed.",
    "Content-Disposition": "Of a file or an archive: that it is an attachment, and its name.",
    "Accept-Ranges": "`bytes`.",
    "Content-Range": "Which bytes of how many these are; after a 416, how many there are.",
}
OF_FILES = ("ETag", "Last-Modified", "Content-Disposition", "Accept-Ranges")
# What an answer carries beyond X-Request-ID: by status, by a parameter of the operation, by operation and status.
BY_STATUS = {
    "201": ("Location",),
    "307": ("Location",),
    "401": ("WWW-Authenticate",),
    "416": ("Content-Range",),
    "503": ("Retry-After",),
}
BY_PARAMETER = {
    "Prefer": ("Preference-Applied", "Retry-After"),
    "wait": ("Retry-After",),
    "Idempotency-Key": ("Idempotent-Replayed",),
}
BY_OPERATION = {
    "download_file 200": OF_FILES,
    "download_file 206": (*OF_FILES, "Content-Range"),
    "download_file 304": OF_FILES,
    "list_files 200": ("Content-Disposition",),
}


def headers() -> dict[str, Any]:
    """The document's `components.headers`."""
    return {name: {"schema": {"type": "string"}, "description": words} for name, words in HEADERS.items()}


def add(operation: dict[str, Any]) -> None:
    """Put the operation's examples and the answers' headers into the document. What has examples already keeps them."""
    named = operation["operationId"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        _put(content, WHAT_IS_ASKED.get(named, {}))
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        if status.startswith("2") and content:
            _put(next(iter(content.values())), WHAT_COMES.get(named, {}))
        also = [*BY_STATUS.get(status, ()), *BY_OPERATION.get(f"{named} {status}", ())]
        if status.startswith("2"):
            also += [header for one in operation.get("parameters", []) for header in BY_PARAMETER.get(one["name"], ())]
        for header in ["X-Request-ID", *also]:
            answer.setdefault("headers", {}).setdefault(header, {"$ref": f"#/components/headers/{header}"})


def _put(content: dict[str, Any], examples: dict[str, Any]) -> None:
    if examples and not content.get("examples"):
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
