"""What sessions do when the runtime or a template has news."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from runtime.models import Container
from runtime.services.operators import Manner
from runtime.signals import container_died, container_unwanted
from sandbox_platform.queue import Queue, enqueue
from sessions_app.models import Reason, Session, SessionStatus
from sessions_app.services import lifecycle
from templates_app.signals import image_ready


@receiver(container_died)
def end_with_container(sender: Any, container: Container, oom_killed: bool, node_lost: bool, **kwargs: Any) -> None:
    """A session does not outlive its sandbox."""
    reason = Reason.OOM_KILLED if oom_killed else Reason.NODE_LOST if node_lost else Reason.CONTAINER_LOST
    detail = "Its sandbox was killed for want of memory" if oom_killed else f"Its sandbox is gone: {container.detail}"
    for pk in Session.objects.filter(container=container).values_list("pk", flat=True):
        lifecycle.end(pk, reason, detail)


@receiver(container_unwanted)
def end_by_operator(sender: Any, container: Container, manner: Manner, who: str, **kwargs: Any) -> bool | None:
    """The session of a container that an operator wants gone ends with it: after its runs where it is drained, else now."""
    pk = Session.objects.filter(container=container).values_list("pk", flat=True).first()
    if pk is None:
        return None
    reason = Reason.TERMINATED_BY_OPERATOR
    if manner == Manner.DRAIN:
        return lifecycle.close(pk, reason, f"Drained by {who}")
    return lifecycle.end(pk, reason, f"{'Killed' if manner == Manner.KILL else 'Removed'} by {who}")


@receiver(image_ready)
def provision_those_waiting(sender: Any, template_id: str, runtime_type: str, **kwargs: Any) -> None:
    """Sessions that waited for the template start now."""
    waiting = Session.objects.filter(
        status=SessionStatus.CREATING, template_id=template_id, runtime_type=runtime_type, container=None
    )
    for pk in waiting.values_list("pk", flat=True):
        enqueue(Queue.LIFECYCLE, "sessions_app.tasks.provision", pk)
