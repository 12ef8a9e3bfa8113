"""What a request leaves to be done behind its answer: log lines, figures, wake-ups. Nothing that may not be lost with the process."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import structlog

Work = Callable[[], None]
log = structlog.get_logger(__name__)
_left: ContextVar[list[Work] | None] = ContextVar("afterwards", default=None)


def afterwards(work: Work) -> None:
    """Do it behind the answer of the request that this thread serves; at once where it serves none."""
    left = _left.get()
    if left is None:
        work()
    else:
        left.append(work)


def begin() -> None:
    """A request begins."""
    _left.set([])


def end() -> None:
    """Its answer is out."""
    left = _left.get()
    _left.set(None)
    for work in left or ():
        try:
            work()
        except Exception:
            log.exception("afterwards_failed")
