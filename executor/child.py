"""What a fresh child of the zygote does: shed privileges, take its place, run the code. Never returns."""

from __future__ import annotations

import json
import os
import signal
from typing import Any, NoReturn

from executor import claim, node_runner, python_runner, scratch, shell_runner
from executor.cli import Options
from executor.linux import private_file
from executor.log import log
from executor.privileges import become, confine
from executor.relay import proxy_variables
from executor.results import Channel

RESULT_FD = 200  # far from the small numbers that user code opens, closes and passes on; below any sane nofile
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def prepare() -> None:
    """What a child does before it knows its run: signals as a new process has them, and its limits."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    confine()


def rehearse(options: Options) -> None:
    """Goes once through what `run` will go through, to no effect: the pages that it changes are this process's own by then."""
    fd = private_file(json.dumps({"nonce": "", "env": {}, "args": []}).encode())
    json.loads(claim.take(fd))
    os.dup2(fd, RESULT_FD)
    os.closerange(RESULT_FD, 256)
    os.close(fd)
    _set_environment(options, {})
    python_runner.touch()


def run(request: dict[str, Any], fds: list[int], options: Options) -> NoReturn:
    """In a process that is prepared. `fds` are spec, stdin, stdout, stderr and result; `request` has `uid` and `language`, or `wipe`.

    An idle node (`warm`) gets one more, and its spec is written only when its run has come.
    """
    if request["language"] == "wipe":
        _wipe(request["uid"], options)
    if request["language"] == "javascript":
        _run_node(request, fds, options)
    try:
        spec_fd, stdin, stdout, stderr, result = fds
        spec = json.loads(_take(spec_fd))
        for number, fd in enumerate((stdin, stdout, stderr, result)):
            os.dup2(fd, number if number < 3 else RESULT_FD, inheritable=number < 3)
        os.closerange(3, RESULT_FD)
        os.closerange(RESULT_FD + 1, 256)
        become(request["uid"], options.user_uid)
        _set_environment(options, spec["env"])
        channel = Channel(RESULT_FD, spec["nonce"])
    except BaseException as error:
        log("error", "child_failed", error=repr(error))
        os._exit(125)
    try:
        os.chdir(os.path.join(options.workspace, spec["working_directory"]))
    except OSError as error:
        message = f"working_directory: {error.strerror}"
        os.write(2, message.encode() + b"\n")
        channel.send(outcome="exception", exit_code=1, error={"type": "OSError", "message": message, "traceback": ""})
        os._exit(1)
    if request["language"] == "python":
        python_runner.run(spec, channel, [options.workspace], options.figures)
    shell_runner.run(spec, channel)


def _run_node(request: dict[str, Any], fds: list[int], options: Options) -> NoReturn:
    """node applies the request itself, but for the environment it starts with."""
    try:
        spec_fd, stdin, stdout, stderr, result = fds[:5]
        if len(fds) == 5:  # one that waits as a node has no request yet: PID 1 gives it to that process alone
            spec_fd = private_file(_take(spec_fd))
        for number, fd in enumerate((stdin, stdout, stderr)):
            os.dup2(fd, number)
        become(request["uid"], options.user_uid)
        _set_environment(options, {})
        os.chdir(options.workspace)
        node_runner.become_node(options.site, spec_fd, result, fds[5] if len(fds) > 5 else None)
    except BaseException as error:
        log("error", "node_not_started", error=repr(error))
        os.write(2, b"node could not be started\n")
        os._exit(127)


def _wipe(uid: int, options: Options) -> NoReturn:
    """What another user's code could signal or trace must not hold the zygote's sockets: it gives them up before it is that user."""
    try:
        os.closerange(3, 256)
        become(uid, options.user_uid)
        scratch.wipe()
    except BaseException as error:
        log("error", "wipe_failed", error=repr(error))
    os._exit(0)


def _set_environment(options: Options, own: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment(options))
    os.environ.update(own)


def environment(options: Options) -> dict[str, str]:
    """The environment of user code before the run's own variables: made from nothing."""
    env = {"PATH": SYSTEM_PATH, "HOME": options.workspace, "LANG": "C.UTF-8", "TMPDIR": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108
    if options.figures:
        env["MPLBACKEND"] = "Agg"
    if os.path.isdir(options.site):
        env["PATH"] = f"{options.site}/bin:{SYSTEM_PATH}"
        env["PYTHONPATH"] = options.site
    env.update(proxy_variables(options.egress_port))
    return env


def _take(fd: int) -> bytes:
    request = claim.take(fd)
    if not request:  # the zygote has died, and PID 1 starts this run anew
        os._exit(125)
    return request
