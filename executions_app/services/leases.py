"""Leases of this process on runs that it does not drive: they are given back.

A connection that breaks between a commit and its answer leaves a run leased to a living process that knows nothing of it. To give back
one too many does no harm: its executor knows the run, both who follow it read the same end, and that is stored once.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from executions_app.models import Execution, ExecutionStatus

log = structlog.get_logger(__name__)
# By a key of each driver's own: the thread of a request may hand its run to the loop of the same process.
_driven: dict[object, str] = {}
_idle: set[str] = set()


@contextmanager
def driving(pk: str) -> Iterator[None]:
    """This process drives the run inside the block."""
    key = object()
    _driven[key] = pk
    try:
        yield
    finally:
        del _driven[key]


def give_back(own: uuid.UUID) -> None:
    """Let go of what has been leased to the process `own`, this one, and driven by nobody of it at this look and at the one before."""
    global _idle
    mine = Execution.objects.filter(status=ExecutionStatus.RUNNING, driver=own)
    idle = set(mine.values_list("pk", flat=True)).difference(list(_driven.values()))
    if left := _idle & idle:
        log.warning("leases_given_back", executions=sorted(left))
        mine.filter(pk__in=left).update(driver=None)
    _idle = idle


def _after_fork() -> None:
    _driven.clear()
    _idle.clear()


os.register_at_fork(after_in_child=_after_fork)
