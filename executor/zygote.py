"""The zygote: has imported what runs need, holds no state and no secret, forks one fresh child per run."""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
import tempfile
import time
from typing import Any

from executor import child
from executor.cli import Options
from executor.linux import receive_message, send_message

# Imported so early because almost every run needs them; they cost little.
COMMON = ("datetime", "functools", "math", "random", "re", "typing")
SINGLE_THREADED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def serve(options: Options, sock: socket.socket) -> None:
    errors = _preload(options)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    loaded = [name for name in options.preload if name not in errors]
    send_message(sock, {"ready": True, "preloaded": loaded, "preload_errors": errors})
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(sock)
        if sock.fileno() in ready:
            try:
                request, fds, _tail = receive_message(sock)
            except EOFError:
                return
            _fork(sock, request, fds, options)


def _preload(options: Options) -> dict[str, str]:
    """Imports the template's modules; the errors by module. Libraries must not start threads: those die in a fork."""
    if os.path.isdir(options.site):
        sys.path.append(options.site)
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [place for place in sys.path if place != own]
    os.environ.update(dict.fromkeys(SINGLE_THREADED, "1"))
    if options.figures:
        os.environ["MPLBACKEND"] = "Agg"  # read at import
    if any(name.partition(".")[0] == "matplotlib" for name in options.preload):
        # Without this, matplotlib makes one that every run then tries to remove. What is read there is trusted: nobody can know its name.
        os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="matplotlib-")
    sys.dont_write_bytecode = True
    errors = {}
    for name in (*COMMON, *options.preload):
        try:
            importlib.import_module(name)
        except BaseException as error:
            errors[name] = str(error) or type(error).__name__
    gc.collect()
    gc.freeze()  # children then don't touch, and so don't copy, these objects' pages
    gc.disable()
    return errors


def _fork(sock: socket.socket, request: dict[str, Any], fds: list[int], options: Options) -> None:
    at = time.monotonic()
    try:
        pid = os.fork()
    except OSError as error:
        send_message(sock, {"run": request["run"], "error": f"no process could be started: {error.strerror}"})
    else:
        if pid == 0:
            child.run(request, fds, options)
        send_message(sock, {"run": request["run"], "pid": pid, "at": at})
    for fd in fds:
        os.close(fd)


def _reap(sock: socket.socket) -> None:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        cpu = usage.ru_utime + usage.ru_stime
        send_message(sock, {"exit": pid, "status": status, "cpu": cpu, "rss": usage.ru_maxrss})
