"""What the operator reads: short lines, and one sentence that says what to type where something is wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class CannotStart(Exception):
    """The service can't be set up or started. The message says what to do."""


def line(text: str = "") -> None:
    """A line as it is. A terminal that went away is no reason to stop serving."""
    with suppress(OSError):
        print(text, flush=True)


def say(name: str, text: str, seconds: float | None = None) -> None:
    """`  runtime     bubblewrap (no Docker engine answers)      0.1 s`"""
    took = f"  {seconds:.1f} s" if seconds is not None and seconds >= 0.1 else ""
    line(f"  {name:<11} {text}{took}")


def warn(text: str) -> None:
    """To standard error."""
    with suppress(OSError):
        print(f"  {text}", file=sys.stderr, flush=True)


class Step:
    """A step under way: `done` sets what is said of it."""

    def __init__(self) -> None:
        self.result = "done"

    def done(self, text: str) -> None:
        """In words."""
        self.result = text


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Time a step, and say how it went when it is over."""
    began, current = time.monotonic(), Step()
    yield current
    say(name, current.result, time.monotonic() - began)
