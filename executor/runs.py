"""A run as PID 1 sees it: its request, output, claim of a result, measured facts, and events."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable
from typing import Any

from executor.results import HEADER, MAX_DEPTH, MAX_RESULT, NONCE_BYTES, BadResult, check
from executor.streams import Stream
from executor.wire import Fault

MAX_FRAME = 2 * MAX_RESULT + 512 * 1024  # quoting may double a result
MAX_TIMEOUT = 86_400.0
CHUNK = 48 * 1024
MAX_WORDS = 128 * 1024  # bytes of each field of an error: the host takes no answer with more than twice that
LANGUAGES = ("python", "javascript", "shell")
OUTCOMES = ("ok", "exception", "invalid_result", "output_limit", "lost")


def parse_spec(body: bytes) -> dict[str, Any]:
    """The request of a run, checked field by field. Raises Fault."""
    try:
        given = json.loads(body.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Fault("bad_request", "the body is not strict JSON") from None
    if not isinstance(given, dict):
        raise Fault("bad_request", "the body is not a JSON object")
    spec = {
        "language": given.get("language"),
        "code": given.get("code"),
        "event": given.get("event", "{}"),
        "timeout": given.get("timeout", 30.0),
        "stdin": given.get("stdin"),
        "args": given.get("args") or [],
        "env": given.get("env") or {},
        "working_directory": given.get("working_directory") or "",
        "request_id": given.get("request_id"),
    }
    _check(spec)
    return spec


def _refuse(name: str) -> None:
    raise ValueError(name)


def _check(spec: dict[str, Any]) -> None:
    def need(valid: bool, words: str) -> None:
        if not valid:
            raise Fault("bad_request", words)

    need(spec["language"] in LANGUAGES, "language must be python, javascript or shell")
    need(_is_text(spec["code"]) and spec["code"] != "", "code must be text")
    need(_is_text(spec["event"]), "event must be JSON text")
    timeout = spec["timeout"]
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    need(number and 0 < timeout <= MAX_TIMEOUT, "timeout must be a number of seconds")
    need(isinstance(spec["args"], list) and all(_is_word(arg) for arg in spec["args"]), "args must be a list of text")
    env = spec["env"]
    need(isinstance(env, dict) and all(_is_word(v) for v in env.values()), "env must map names to text")
    need(all(_is_word(name) and name and "=" not in name for name in env), "env has an impossible name")
    folder = spec["working_directory"]
    need(
        _is_word(folder) and not folder.startswith("/") and ".." not in folder.split("/"),
        "working_directory is not inside",
    )
    if spec["stdin"] is not None:
        try:
            spec["stdin"] = base64.b64decode(spec["stdin"], validate=True)
        except (ValueError, TypeError, binascii.Error):
            raise Fault("bad_request", "stdin must be base64") from None


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_word(value: object) -> bool:
    return _is_text(value) and "\0" not in str(value)


class Run:
    """States: starting (asked of the zygote) -> running (has a process) -> ending (being killed) -> done."""

    def __init__(self, key: int, run_id: str, spec: dict[str, Any], uid: int) -> None:
        self.key, self.id, self.spec, self.uid = key, run_id, spec, uid
        self.request_id = spec["request_id"]
        self.nonce = os.urandom(NONCE_BYTES).hex()
        self.state = "starting"
        self.pid = 0
        self.zygote = 0  # the pid of the one that was asked for its process
        self.tries = 0  # how many were asked
        self.started_at = 0.0
        self.started = 0.0
        self.ended = 0.0
        self.streams = {"stdout": Stream(), "stderr": Stream()}
        self.cause = ""  # timeout or cancelled, once we have decided to kill it
        self.problem = ""  # why it is lost
        self.status: int | None = None  # the wait status of its main process
        self.cpu = 0.0  # seconds
        self.rss = 0  # KiB, of the largest process
        self.oom_before: int | None = None
        self.oom_after: int | None = None
        self.artifacts: list[dict[str, Any]] = []
        self.artifacts_truncated = False
        self.listed: tuple[list[dict[str, Any]], bool] | None = None  # both, once the file helper has said
        self.result_line = b""
        self.watchers: set[Callable[[], None]] = set()
        self._frames = bytearray()
        self._handler_called = False
        self._claim: dict[str, Any] | None = None

    def notify(self) -> None:
        for watcher in list(self.watchers):
            watcher()

    def account(self, cpu: float, rss: int) -> None:
        self.cpu += cpu
        self.rss = max(self.rss, rss)

    @property
    def said_how(self) -> bool:
        """Whether it has said itself how it ended. Nothing that it says later counts."""
        return self._claim is not None

    def feed_result(self, data: bytes) -> bool:
        """Takes bytes from the result pipe. True once the run has said how it ended. Noise silences the pipe."""
        self._frames += data
        while self._claim is None and len(self._frames) >= HEADER.size:
            length, nonce = HEADER.unpack_from(self._frames)
            if nonce.hex() != self.nonce or length > MAX_FRAME:
                self._frames.clear()
                return False
            if len(self._frames) < HEADER.size + length:
                return False
            body = bytes(self._frames[HEADER.size : HEADER.size + length])
            del self._frames[: HEADER.size + length]
            self._take(body)
        return self.said_how

    def _take(self, body: bytes) -> None:
        try:
            frame = json.loads(body)
        except (ValueError, RecursionError):
            return
        if isinstance(frame, dict) and frame.get("handler") is True:
            self._handler_called = True
        elif isinstance(frame, dict) and frame.get("outcome") in OUTCOMES:
            self._claim = _sane(frame)

    def finish(self) -> None:
        """Composes the result, facts before claims. Everything of the run is dead and read."""
        verdict = self._verdict(
            self.oom_before is not None and self.oom_after is not None and self.oom_after > self.oom_before
        )
        out, err = self.streams["stdout"], self.streams["stderr"]
        out.finish()
        err.finish()
        verdict.update(
            t="result",
            duration_ms=round(max(0.0, self.ended - self.started) * 1000, 3),
            cpu_time_ms=round(max(0.0, self.cpu) * 1000, 3),
            peak_memory_mb=round(self.rss / 1024, 3),
            stdout_bytes=out.total,
            stderr_bytes=err.total,
            stdout_omitted=out.omitted,
            stderr_omitted=err.omitted,
            artifacts=self.artifacts,
            artifacts_truncated=self.artifacts_truncated,
        )
        self.outcome = verdict["outcome"]
        self.result_line = _line(verdict)
        self.spec = {"language": self.spec["language"]}
        self._frames.clear()
        self._claim = None
        self.state = "done"
        self.notify()

    def _verdict(self, oom: bool) -> dict[str, Any]:
        def verdict(outcome: str, exit_code: int | None, value: str | None = None, error: Any = None) -> dict[str, Any]:
            return {"outcome": outcome, "exit_code": exit_code, "return_value": value, "error": error}

        if self.cause:
            return verdict(self.cause, 137)
        if self._claim is not None:
            claim = self._claim
            return verdict(claim["outcome"], claim["exit_code"], claim["return_value"], claim["error"])
        if self.problem or self.status is None:
            message = self.problem or "the end of its process was not seen; user code may have begun"
            return verdict("lost", None, None, {"type": "Lost", "message": message, "traceback": ""})
        code = exit_code(self.status)
        if code == 137 and oom:
            return verdict("oom", 137)
        if code == 0 and self._handler_called:
            return verdict(
                "invalid_result", 0, None, _words("InvalidResult", "the process ended, the handler never returned")
            )
        return verdict("ok" if code == 0 else "exception", code)

    @property
    def held(self) -> int:
        """Bytes of memory that the result takes until it is acknowledged."""
        return len(self.result_line) + sum(stream.kept for stream in self.streams.values())

    def started_line(self) -> bytes:
        return _line({"t": "started", "at": self.started_at})

    def output_line(self, name: str, offset: int) -> tuple[int, bytes]:
        """The next event of a stream from `offset` on, and the offset after it; empty when there is nothing more yet."""
        start, data = self.streams[name].read(offset, CHUNK)
        if not data:
            return offset, b""
        encoded = base64.b64encode(data).decode()
        return start + len(data), _line({"t": name, "o": start, "d": encoded})


def exit_code(status: int) -> int:
    """As a shell would say it: 128 + n for a signal."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _words(kind: str, message: str) -> dict[str, str]:
    return {"type": kind, "message": message, "traceback": ""}


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _sane(frame: dict[str, Any]) -> dict[str, Any]:
    """A claim with each field of its type: it comes from user code's own process."""
    value = frame.get("return_value")
    outcome = frame["outcome"]
    given = frame.get("error")
    fields = ("type", "message", "traceback")
    error = {key: fit(given.get(key), MAX_WORDS) for key in fields} if isinstance(given, dict) else None
    if value is not None and outcome == "ok":
        outcome, error = _judge(value)
    code = frame.get("exit_code")
    code = code & 0xFF if isinstance(code, int) else None if outcome == "lost" else 0
    return {"outcome": outcome, "exit_code": code, "return_value": value if outcome == "ok" else None, "error": error}


def fit(words: object, most: int) -> str:
    """Text that every reader takes, of at most `most` bytes: half a character is spelled out, a cut one is dropped."""
    if not isinstance(words, str):
        return ""
    return words[:most].encode("utf-8", "backslashreplace")[:most].decode("utf-8", "ignore")


def _judge(value: object) -> tuple[str, dict[str, str] | None]:
    """The child has checked its result; this is for what only pretends to come from our part of it."""
    if not isinstance(value, str) or not _is_text(value):
        return "invalid_result", _words("InvalidResult", "the return value is not text")
    if len(value.encode("utf-8")) > MAX_RESULT:
        return "output_limit", _words("OutputLimit", f"the return value is larger than {MAX_RESULT} bytes")
    try:
        parsed = json.loads(value, parse_constant=_refuse)
        if value.count("[") + value.count("{") > MAX_DEPTH:  # how deep the host can read depends on where it does so
            check(parsed)
    except (ValueError, RecursionError):
        return "invalid_result", _words("InvalidResult", "the return value is not strict JSON")
    except BadResult as problem:
        return "invalid_result", _words("InvalidResult", str(problem))
    return "ok", None
