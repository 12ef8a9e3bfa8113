"""The only place that enqueues. A task is a dotted path and ids, written in the caller's transaction: it runs if that commits."""

from __future__ import annotations

from enum import StrEnum

import structlog
from django.db import transaction
from django.utils.module_loading import import_string
from django_q.brokers import Broker
from django_q.models import Failure, OrmQ
from django_q.tasks import async_task


class Queue(StrEnum):
    """One cluster of workers each, so that slow work can't hold up quick work."""

    RUNS = "runs"  # hands runs to the event loop: milliseconds
    LIFECYCLE = "lifecycle"  # makes and removes sandboxes: up to a minute
    COPIES = "copies"  # pays storage debts: as long as the files are large and the storage is slow
    BUILDS = "builds"  # prepares template images: minutes


def enqueue(queue: Queue, func: str, *ids: str | int) -> None:
    """Have `func(*ids)` called by a worker of `queue`. The request id goes with it into the worker's log lines."""
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    async_task("sandbox_platform.queue.call", func, request_id, *ids, cluster=str(queue))


def again(failure: Failure) -> bool:
    """Put a task that failed back into its queue, and forget the failure. False if somebody else did."""
    with transaction.atomic():
        if not Failure.objects.filter(pk=failure.pk).delete()[0]:
            return False
        async_task(failure.func, *(failure.args or ()), cluster=failure.cluster, **(failure.kwargs or {}))
    return True


def package(queue: Queue, func: str, *ids: str | int) -> str:
    """What `enqueue` would write as the payload of a row, for who writes it in a statement of their own."""
    wrapped = _Wrapped(list_key=str(queue))
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    async_task("sandbox_platform.queue.call", func, request_id, *ids, cluster=str(queue), broker=wrapped)
    return wrapped.payload


class _Wrapped(Broker):
    """Keeps what it is given."""

    payload = ""

    def enqueue(self, task: str) -> None:
        """For the caller."""
        self.payload = task


def call(func: str, request_id: str, *ids: str | int) -> None:
    """What a worker runs: `func` with the request id bound."""
    with structlog.contextvars.bound_contextvars(**({"request_id": request_id} if request_id else {}), task=func):
        import_string(func)(*ids)


def depth(queue: Queue) -> int:
    """Tasks that wait in `queue`."""
    return OrmQ.objects.filter(key=str(queue)).count()
