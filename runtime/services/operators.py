"""What operators do to containers. A container that serves a session ends through that session: those above are asked by signal."""

from __future__ import annotations

from enum import StrEnum

from django.db import transaction

from runtime.models import Container, ContainerStatus
from runtime.signals import container_unwanted
from sandbox_platform.queue import Queue, enqueue


class Manner(StrEnum):
    """How it goes."""

    DRAIN = "drain"  # takes no more runs, goes with its last one
    REMOVE = "remove"  # its runs are stopped, output and files are kept
    KILL = "kill"  # at once: what was not handed over yet is lost


def possible(container: Container) -> bool:
    """Whether there is still something to end. One that is being made belongs to its maker, its session can be terminated."""
    return container.maker is None and container.status != ContainerStatus.REMOVED


def end(container: Container, manner: Manner, who: str) -> bool:
    """End it. False if that was under way already. `who` stands in what the tenant is told."""
    with transaction.atomic():
        answers = [
            answer for _, answer in container_unwanted.send(Container, container=container, manner=manner, who=who)
        ]
        used = [answer for answer in answers if answer is not None]
        stopped = False
        if manner == Manner.KILL or not used:
            stopped = bool(Container.objects.filter(pk=container.pk).move(ContainerStatus.STOPPING))
            enqueue(Queue.LIFECYCLE, "runtime.tasks.remove", container.pk)
    return stopped or any(used)
