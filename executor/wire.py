"""The bytes of HTTP/1.1, as far as one request a connection needs them."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_HEAD = 16 * 1024
MAX_PATH = 1024
STATUS = {
    "bad_request": 400,
    "not_found": 404,
    "conflict": 409,
    "running": 409,
    "gone": 410,
    "too_large": 413,
    "busy": 429,
    "internal": 500,
    "full": 503,
    "disk_full": 507,
}
REASONS = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content"}


class Fault(Exception):
    """An answer that is an error: one of the codes of README.md, and words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Request:
    def __init__(self, method: str, target: str, headers: dict[str, str]) -> None:
        self.method = method
        self.path, _, query = target.partition("?")
        self.query = _parse_query(query)
        self.headers = headers

    @property
    def request_id(self) -> str | None:
        value = self.headers.get("x-request-id")
        return value[:200] if value else None

    @property
    def content_length(self) -> int | None:
        """None when there is none. Raises Fault for what is no number."""
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise Fault("bad_request", "Content-Length is not a number")
        return int(text)

    @property
    def chunked(self) -> bool:
        coding = self.headers.get("transfer-encoding")
        if coding is None:
            return False
        if coding.lower() != "chunked" or "content-length" in self.headers:
            raise Fault("bad_request", "Transfer-Encoding must be chunked, without Content-Length")
        return True

    def number(self, name: str, default: int) -> int:
        text = self.query.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise Fault("bad_request", f"{name} must be a number from 0")
        return int(text)

    def flag(self, name: str) -> bool:
        return self.query.get(name, "0") not in ("", "0", "false")


def parse_head(head: bytes) -> Request:
    """The request line and headers, without the empty line. Raises Fault."""
    try:
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
    except ValueError:
        raise Fault("bad_request", "not an HTTP request") from None
    if not version.startswith("HTTP/1.") or not target.startswith("/"):
        raise Fault("bad_request", "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, value = parse_header(line.encode("latin-1"))
        if name in headers:
            raise Fault("bad_request", "a repeated header")
        headers[name] = value
    return Request(method, target, headers)


def parse_header(line: bytes) -> tuple[str, str]:
    """Name in lower case and value of a header or trailer. Raises Fault."""
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or not re.fullmatch(r"[!-~]+", name):
        raise Fault("bad_request", "a malformed header")
    return name.lower(), value.strip()


def percent_decode(text: str) -> str:
    """Raises Fault where the bytes are not UTF-8."""
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match.group(1), 16)]), text.encode("latin-1"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("bad_request", "not UTF-8 in the URL") from None


def _parse_query(query: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in query.split("&") if part)
    return {percent_decode(name): percent_decode(value.replace("+", " ")) for name, _, value in pairs}


def workspace_path(text: str) -> list[str]:
    """The segments of a path in the workspace, from its percent-encoded form. Raises Fault."""
    path = percent_decode(text)
    segments = path.split("/")
    if len(path.encode()) > MAX_PATH or "\0" in path or any(part in ("", ".", "..") for part in segments):
        raise Fault("bad_request", f"not a relative path of at most {MAX_PATH} bytes without empty, . and .. segments")
    return segments


def head(status: int, headers: dict[str, object]) -> bytes:
    reason = REASONS.get(status) or next((code for code, number in STATUS.items() if number == status), "Error")
    lines = [f"HTTP/1.1 {status} {reason}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def json_answer(status: int, content: Any) -> bytes:
    body = json.dumps(content, allow_nan=False).encode()
    return head(status, {"Content-Type": "application/json", "Content-Length": len(body)}) + body


def error_answer(code: str, message: str) -> bytes:
    return json_answer(STATUS[code], {"error": code, "message": message})
