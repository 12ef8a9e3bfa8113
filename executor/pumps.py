"""Moves bytes between PID 1 and the process of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from executor.loop import READ, WRITE, Loop
from executor.runs import Run
from executor.slots import Pipes, Slot

PIPE_READ = 256 * 1024


class Pumps:
    """Feeds stdin, reads what is printed, and hears of the end: `told` is called once a run has said how it ended."""

    def __init__(self, loop: Loop, told: Callable[[Slot], None]) -> None:
        self._loop, self._told = loop, told

    def attach(self, slot: Slot, run: Run, pipes: Pipes) -> None:
        for name, fd in pipes.ours.items():
            slot.pipes[fd] = name
            if name == "stdin":
                self._loop.watch(fd, WRITE, partial(self._feed, slot, fd, memoryview(run.spec["stdin"] or b"")))
            else:
                self._loop.watch(fd, READ, partial(self._readable, slot, run, fd, name))

    def _feed(self, slot: Slot, fd: int, data: memoryview, _mask: int) -> None:
        try:
            data = data[os.write(fd, data[:PIPE_READ]) :] if data else data
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            data = data[:0]
        if data:
            self._loop.watch(fd, WRITE, partial(self._feed, slot, fd, data))
        else:
            self.close(slot, fd)

    def _readable(self, slot: Slot, run: Run, fd: int, name: str, _mask: int) -> None:
        self.drain(slot, run, fd, name)

    def drain(self, slot: Slot, run: Run, fd: int, name: str) -> bool:
        """Reads a pipe once. False when there is nothing to be had now."""
        try:
            data = os.read(fd, PIPE_READ)
        except BlockingIOError:
            return False
        if not data:
            self.close(slot, fd)
            return False
        if name != "result":
            run.streams[name].feed(data)
            run.notify()
        elif run.feed_result(data) and run.state == "running":
            self._told(slot)
        return True

    def close(self, slot: Slot, fd: int) -> None:
        self._loop.unwatch(fd)
        del slot.pipes[fd]
        os.close(fd)
