"""Runs a user's shell script under a small parent that reads what it left in `$SANDBOX_RESULT`. Never returns."""

from __future__ import annotations

import json
import os
import signal
from typing import Any, NoReturn

from executor.results import MAX_RESULT, BadResult, Channel, check

SCRIPT = "main.sh"
SHELLS = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash")


def run(spec: dict[str, Any], channel: Channel) -> NoReturn:
    code = 1
    try:
        folder = "/tmp/.sandbox-" + os.urandom(8).hex()  # noqa: S108 - wiped between runs
        os.mkdir(folder, 0o700)
        event, result = os.path.join(folder, "event.json"), os.path.join(folder, "result.json")
        with open(event, "w", encoding="utf-8") as file:
            file.write(spec["event"])
        os.environ.update(SANDBOX_EVENT=event, SANDBOX_RESULT=result)
    except OSError as error:
        channel.send(
            outcome="lost",
            exit_code=None,
            error={"type": "OSError", "message": f"no room for the event in /tmp: {error.strerror}", "traceback": ""},
        )
        os._exit(1)
    shell = next((path for path in SHELLS if os.access(path, os.X_OK)), "/bin/sh")
    pid = os.fork()
    if pid == 0:
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that would be inherited
            signal.signal(ignored, signal.SIG_DFL)
        try:
            os.execv(shell, [os.path.basename(shell), "-c", spec["code"], SCRIPT, *spec["args"]])  # noqa: S606
        except OSError as error:
            os.write(2, f"{SCRIPT}: {error.strerror}\n".encode())
        os._exit(126)
    status = os.waitpid(pid, 0)[1]
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    if code == 0:
        _hand_over(result, channel)
    os._exit(code)


def _hand_over(path: str, channel: Channel) -> None:
    """Sends the text of the result file as it is, if it is strict JSON. No file, or an empty one, is no result."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            data = file.read(MAX_RESULT + 1).strip()
    except OSError:
        return
    if len(data) > MAX_RESULT:
        return channel.refuse("output_limit", "OutputLimit", f"$SANDBOX_RESULT is larger than {MAX_RESULT} bytes")
    if not data:
        return
    try:
        text = data.decode("utf-8")
        check(json.loads(text, parse_constant=_refuse))
        channel.send(outcome="ok", exit_code=0, return_value=text)
    except (ValueError, RecursionError, BadResult) as error:
        channel.refuse("invalid_result", "InvalidResult", f"$SANDBOX_RESULT is not strict JSON: {error}")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} has no form in JSON")
