"""What is sent to an executor: targets, heads and bodies of requests, without any I/O."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True)
class RunRequest:
    """One run. `event` is JSON text and passed on as it is; `timeout` is in seconds; `env` is for this run alone."""

    language: str
    code: str
    event: str = "{}"
    timeout: float = 30.0
    stdin: bytes | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    working_directory: str = ""
    request_id: str | None = None

    def encode(self) -> bytes:
        """The body of `PUT /v1/runs/{id}`. Raises `ValueError` on what is not strict UTF-8 JSON."""
        body: dict[str, Any] = {
            "language": self.language,
            "code": self.code,
            "event": self.event,
            "timeout": self.timeout,
            "stdin": None if self.stdin is None else base64.b64encode(self.stdin).decode("ascii"),
            "args": list(self.args),
            "env": self.env,
            "working_directory": self.working_directory,
        }
        if self.request_id is not None:
            body["request_id"] = self.request_id
        return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


def run_target(run_id: str, action: str = "", **query: int) -> str:
    """The path of a run, with those of the query's numbers that are not 0. Raises `ValueError` on an unfit id."""
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"not a run id: {run_id!r}")
    wanted = {key: value for key, value in query.items() if value}
    return f"/v1/runs/{run_id}{action}" + (f"?{urlencode(wanted)}" if wanted else "")


def file_target(path: str, offset: int = 0, length: int | None = None) -> str:
    """The path of a file. Any name is legal in it; what the executor makes of `..` is its affair."""
    query: dict[str, int] = {"offset": offset} if offset else {}
    if length is not None:
        query["length"] = length
    return "/v1/files/" + quote(path) + (f"?{urlencode(query)}" if query else "")


def upload_target(extract: bool) -> str:
    """The path of an upload whose own path comes last."""
    return "/v1/files" + ("?extract=1" if extract else "")


def list_target(prefix: str, recursive: bool, limit: int, after: str = "") -> str:
    """The path of a list of files, from behind the file `after` on."""
    query: dict[str, int | str] = {"prefix": prefix, "recursive": int(recursive), "limit": limit}
    return "/v1/files?" + urlencode(query | {"after": after} if after else query)


def request_head(
    method: str, target: str, *, length: int | None = 0, chunked: bool = False, request_id: str | None = None
) -> bytes:
    """The head of a request, its blank line included. An unfit request id is left out rather than sent."""
    lines = [f"{method} {target} HTTP/1.1", "Host: executor", "Connection: close"]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif length is not None:
        lines.append(f"Content-Length: {length}")
    if request_id is not None and _REQUEST_ID.fullmatch(request_id):
        lines.append(f"X-Request-ID: {request_id}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def encode_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; an empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def encode_end(path: str | None = None) -> bytes:
    """The end of a chunked body, and with it, where it has not been told yet, the path of the file."""
    trailer = "" if path is None else f"X-Path: {quote(path)}\r\n"
    return f"0\r\n{trailer}\r\n".encode("ascii")
