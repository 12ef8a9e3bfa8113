"""What executions do when a session has news (called inside the transaction of the change), and when a worker is there."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver
from django_q.conf import Conf
from django_q.signals import post_spawn

from executions_app import tasks
from executions_app.models import Execution, ExecutionStatus
from executions_app.services import doorbell, finish, sweep
from sandbox_platform.queue import Queue, enqueue
from sessions_app.signals import session_closing, session_ended, session_purged, session_running


@receiver(session_running)
def dispatch_those_waiting(sender: Any, session_id: str, **kwargs: Any) -> None:
    """Whoever submitted before the sandbox was up has not to sleep."""
    if Execution.objects.filter(session_id=session_id, status=ExecutionStatus.PENDING).exists():
        doorbell.ring(session_id)


@receiver(session_closing)
def end_those_waiting(sender: Any, session_id: str, **kwargs: Any) -> None:
    """No more runs begin."""
    sweep.end_with_session(session_id)


@receiver(session_ended)
def end_all(sender: Any, session_id: str, **kwargs: Any) -> None:
    """Waiting ones end now; running ones are cancelled, so that their output so far is kept."""
    sweep.end_with_session(session_id)
    if Execution.objects.filter(session_id=session_id, status=ExecutionStatus.RUNNING).exists():
        enqueue(Queue.RUNS, "executions_app.tasks.cancel_all", session_id)


@receiver(post_spawn)
def answer_the_door(**kwargs: Any) -> None:
    """In each process of django-q2 that works on runs, once it is there."""
    if Conf.CLUSTER_NAME == Queue.RUNS:
        doorbell.follow(tasks.dispatch)


@receiver(session_purged)
def erase_outputs(sender: Any, session_id: str, **kwargs: Any) -> None:
    """Of those that have ended. The others are erased at their ends, which lock them before the session."""
    finish.erase(session_id)
