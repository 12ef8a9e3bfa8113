"""Matplotlib figures that user code left open become PNG files of its working directory.

They are drawn by a fork of the run, so that nothing that happens there (a crash, an endless loop, no memory) can change how the run
ends. All that is needed is bound here, before user code can patch anything.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import Any

MAX_FIGURES = 20
MAX_PIXELS = 25_000_000  # of one figure: 100 MB while it is drawn
MAX_WORDS = 500  # characters on stderr of why one was not saved
PATIENCE = 10.0  # seconds for all of them
SPARE = 0.5  # seconds before the time-out of the run

_fork, _exit, _kill, _waitpid = os.fork, os._exit, os.kill, os.waitpid
_pipe, _close, _open, _dup, _dup2, _write = os.pipe, os.close, os.open, os.dup, os.dup2, os.write
_monotonic, _poll = time.monotonic, select.poll


def save(deadline: float) -> None:
    """Saves open figures as `figure-<number>.png`. Takes no longer than to `deadline` (monotonic), and never raises."""
    try:
        pyplot = sys.modules.get("matplotlib.pyplot")
        seconds = min(PATIENCE, deadline - SPARE - _monotonic())
        if pyplot is None or seconds <= 0 or not pyplot.get_fignums():
            return
        read, write = _pipe()
        pid = _fork()
        if pid == 0:
            _draw(pyplot)
        _close(write)
        in_time = _await(read, seconds)
        _kill(pid, signal.SIGKILL)
        status = _waitpid(pid, 0)[1]
        _close(read)
        if not in_time:
            _complain(2, "the rest", f"drawing took longer than {seconds:.1f} s")
        elif status:
            _complain(2, "the rest", f"drawing ended with signal {status & 0x7F}")
    except BaseException:  # noqa: S110 - pyplot is the user's to break; the run ends as it would without figures
        pass


def _await(read: int, seconds: float) -> bool:
    """Until the other end of the pipe is closed, which it is when the drawer has ended. False if that took too long."""
    poll = _poll()
    poll.register(read, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _draw(pyplot: Any) -> None:
    """In the fork. Never returns; what can't be drawn is left out, and the run's stderr says so."""
    try:
        words, nothing = _dup(2), _open(os.devnull, os.O_RDWR)
        for number in (1, 2):  # warnings of matplotlib are no output of the run
            _dup2(nothing, number)
        numbers = pyplot.get_fignums()
        for number in numbers[:MAX_FIGURES]:
            _save_one(pyplot.figure(number), f"figure-{number}.png", words)
        if len(numbers) > MAX_FIGURES:
            _complain(words, "the rest", f"of {len(numbers)} figures only {MAX_FIGURES} are saved")
    finally:
        _exit(0)


def _save_one(figure: Any, name: str, words: int) -> None:
    try:
        width, height = figure.get_size_inches() * figure.dpi
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width:.0f} x {height:.0f} pixels are more than {MAX_PIXELS}")
        figure.savefig(name, format="png", bbox_inches=None)
    except Exception as error:  # the others may be better
        _complain(words, name, f"{type(error).__name__}: {error}")


def _complain(fd: int, name: str, problem: str) -> None:
    _write(fd, f"{name} was not saved: {problem}"[:MAX_WORDS].encode("utf-8", "backslashreplace") + b"\n")
