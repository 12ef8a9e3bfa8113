"""The doorbell of a run that waits: it rings in the workers themselves, with the session's name.

The same stands in django-q2's queue, for when nobody hears; from there it would come through one more statement and two more processes.
Whoever answers first takes the run and its task together, and leaves nothing for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from django.db import close_old_connections, connection
from django.utils import timezone
from django_q.models import OrmQ

from sandbox_platform import direct, wakeups
from sandbox_platform.bells import RING_WITH_ID, channel_of
from sandbox_platform.errors import OUTAGE
from sandbox_platform.queue import Queue, package

log = structlog.get_logger(__name__)
KIND = "dispatch"
# A statement goes on with FROM or ends here; parameters by `task_params`.
TASK = f"INSERT INTO {OrmQ._meta.db_table} (key, payload, lock) SELECT %s, %s, %s"


def task_params(session_id: str) -> list[Any]:
    """Of TASK."""
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    return [str(Queue.RUNS), package(Queue.RUNS, "executions_app.tasks.dispatch", session_id), now]


def words(session_id: str) -> tuple[str, list[str]]:
    """What rings in a statement that selects from a task, and its parameters: none where a ring can't travel so; `publish` then."""
    return (RING_WITH_ID, [channel_of(KIND), _topic(session_id, "")]) if wakeups.rides() else ("NULL", [])


def publish(session_id: str, task: int) -> None:
    """Ring for a task that is written, once the current transaction is committed."""
    wakeups.publish(_topic(session_id, task))


def ring(session_id: str) -> None:
    """Write the task and ring, in the caller's transaction."""
    said, rung = words(session_id)
    task = f"{TASK} RETURNING id"
    if rung:
        direct.one(f"WITH task AS ({task}) SELECT {said} FROM task", [*task_params(session_id), *rung])  # noqa: S608
    else:
        publish(session_id, (direct.one(task, task_params(session_id)) or (0,))[0])


def follow(answer: Callable[[str, int], None]) -> Callable[[], None]:
    """Have `answer(session_id, task)` called for each ring from now on, in a thread of its own. Gives what ends that."""

    def heard(topic: str) -> None:
        _, session_id, task = topic.split(":")
        try:
            close_old_connections()
            answer(session_id, int(task))
        except OUTAGE as error:  # the task is there still
            log.warning("database_unavailable", error=str(error))

    return wakeups.follow(KIND, heard)


def _topic(session_id: str, task: int | str) -> str:
    return f"{KIND}:{session_id}:{task}"
