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
PATIENCE = 10.0  # seconds for all of them
SPARE = 0.5  # seconds before the time-out of the run

_fork, _exit, _kill, _waitpid = os.fork, os._exit, os.kill, os.waitpid
_pipe, _close, _open, _dup2 = os.pipe, os.close, os.open, os.dup2
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
        _await(read, seconds)
        _kill(pid, signal.SIGKILL)
        _waitpid(pid, 0)
        _close(read)
    except BaseException:  # noqa: S110 - pyplot is the user's to break; the run ends as it would without figures
        pass


def _await(read: int, seconds: float) -> None:
    """Until the other end of the pipe is closed, which it is when the drawer has ended."""
    poll = _poll()
    poll.register(read, select.POLLIN)
    poll.poll(seconds * 1000)


def _draw(pyplot: Any) -> None:
    """In the fork. Never returns; what can't be drawn is left out."""
    try:
        nothing = _open(os.devnull, os.O_RDWR)
        for number in (1, 2):  # warnings of matplotlib are no output of the run
            _dup2(nothing, number)
        for number in pyplot.get_fignums()[:MAX_FIGURES]:
            _save_one(pyplot.figure(number), f"figure-{number}.png")
    finally:
        _exit(0)


def _save_one(figure: Any, name: str) -> None:
    try:
        width, height = figure.get_size_inches() * figure.dpi
        if width * height <= MAX_PIXELS:
            figure.savefig(name, format="png", bbox_inches=None)
    except Exception:  # noqa: S110 - the others may be better
        pass
