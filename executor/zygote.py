"""The zygote: has imported what runs need, holds no state and no secret, forks one fresh child per run.

One child is forked ahead and waits: a fork and the pages that a new child touches first are half of what a small run costs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import tempfile
import time
from typing import Any, NoReturn

from executor import apart, child, procfs
from executor.cli import Options
from executor.linux import collapse_memory, receive_message, send_message, seqpacket_pair
from executor.log import log
from executor.privileges import limit_address_space

# Imported so early because almost every run needs them; they cost little.
COMMON = ("datetime", "functools", "math", "random", "re", "typing")
QUIET = 2  # milliseconds without a message until the next child is forked
AGAIN = 500  # milliseconds instead, when it could not be forked, or died without a run
SINGLE_THREADED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def serve(options: Options, sock: socket.socket) -> None:
    if options.apart:
        apart.enter()
        send_message(sock, {"apart": True})
    errors = _preload(options)
    if options.address_space:
        limit_address_space(options.address_space)
    procfs.forget()
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    loaded = [name for name in options.preload if name not in errors]
    send_message(sock, {"ready": True, "preloaded": loaded, "preload_errors": errors})
    ahead = Ahead(options, sock)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll(ahead.pause)]
        if not ready:
            ahead.fork()
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(sock, ahead)
        if sock.fileno() in ready:
            try:
                request, fds, _tail = receive_message(sock)
            except EOFError:
                return
            if "run" in request:
                _serve(sock, request, fds, options, ahead)
            elif "taken" in request:
                ahead.taken(request["taken"])
            else:
                ahead.runs_ended()


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
    with contextlib.suppress(OSError, ValueError):
        collapse_memory()
    gc.freeze()  # children then don't touch, and so don't copy, these objects' pages
    gc.disable()
    return errors


class Ahead:
    """The child that waits for its run. It is as privileged and as ignorant as the zygote until it gets one, from PID 1 (waiting.py)."""

    def __init__(self, options: Options, sock: socket.socket) -> None:
        self._options, self._sock = options, sock
        self.pid = 0
        self._patience = QUIET
        self.wanted, self._never = True, False
        self._asked = 0  # how often it had to make way: PID 1 takes no child that is older than its last request

    @property
    def pause(self) -> int | None:
        """Milliseconds until it should be forked; None while it waits, or must not be there."""
        return None if self.pid or not self.wanted else self._patience

    def fork(self) -> None:
        """Where no process is to be had it is tried again later; a run's own fork will say so."""
        self._patience = AGAIN
        try:
            ours, theirs = seqpacket_pair()
        except OSError:
            return
        with ours, theirs:
            try:
                self.pid = os.fork()
            except OSError:
                return
            if self.pid == 0:
                ours.close()
                self._wait(theirs)
            with contextlib.suppress(OSError):  # it ends when both of us have closed its socket
                send_message(self._sock, {"ahead": self.pid, "asked": self._asked}, (ours.fileno(),))

    def _wait(self, sock: socket.socket) -> NoReturn:
        """Ends when PID 1 closes its end of the socket, which is the only one."""
        try:
            os.closerange(3, sock.fileno())
            os.closerange(sock.fileno() + 1, 256)
            child.prepare()
            child.rehearse(self._options)
            request, fds, _tail = receive_message(sock)
        except EOFError:
            os._exit(0)
        except BaseException as error:
            log("error", "child_failed", error=repr(error))
            os._exit(125)  # it may have been given a run by now, which this must not pass for
        child.run(request, fds, self._options)

    def taken(self, pid: int) -> None:
        """That child has got a run, or had: the moment to think of the next."""
        if pid == self.pid:
            self.pid = 0
        self._patience = QUIET
        if self._options.apart:
            self.wanted = False

    def make_way(self, language: str) -> None:
        """A run comes. Where runs see each other in /proc (`--apart`) none may see this child, so it waits only while there are none.

        An idle node is given its run without our knowledge: from the first one on, none is forked ahead any more.
        """
        if not self._options.apart or language == "wipe":
            return
        self.wanted, self._never = False, self._never or language == "javascript"
        self._asked += 1
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def runs_ended(self) -> None:
        """PID 1 knows of no process of any run."""
        self.wanted, self._patience = not self._never, QUIET

    def ended(self, pid: int) -> None:
        """If it was this one: PID 1 says so if it had a run."""
        if pid == self.pid:
            self.pid, self._patience = 0, AGAIN


def _serve(sock: socket.socket, request: dict[str, Any], fds: list[int], options: Options, ahead: Ahead) -> None:
    """On a fork of its own: nodes and wipers, for which nobody waits, and a run that found no child waiting."""
    at = time.monotonic()
    ahead.make_way(request["language"])
    try:
        pid = os.fork()
    except OSError as error:
        send_message(sock, {"run": request["run"], "error": f"no process could be started: {error.strerror}"})
    else:
        if pid == 0:
            child.prepare()
            child.run(request, fds, options)
        send_message(sock, {"run": request["run"], "pid": pid, "at": at})
    for fd in fds:
        os.close(fd)


def _reap(sock: socket.socket, ahead: Ahead) -> None:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ahead.ended(pid)
        cpu = usage.ru_utime + usage.ru_stime
        send_message(sock, {"exit": pid, "status": status, "cpu": cpu, "rss": usage.ru_maxrss})
