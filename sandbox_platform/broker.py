"""django-q2's broker on our database that wakes at once.

A task is claimed by deleting its row: delivery is at most once. That loses nothing, because the queue is only a doorbell: the rows of
sessions, executions and containers say what is to be done, and the ticker rings again for what is due and not under way.
"""

from __future__ import annotations

from typing import Any

from django.db import connections, transaction
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ

from sandbox_platform import wakeups

# Seconds between looks without a wake-up.
LOOK_AGAIN = 2.0


class WakingBroker(ORM):
    """Enqueue in the caller's transaction, wake on commit, claim with one statement."""

    def enqueue(self, task: str) -> Any:
        """The row's id."""
        pk = super().enqueue(task)
        wakeups.publish(self._topic())
        return pk

    def dequeue(self) -> list[tuple[int, str]] | None:
        """One claimed task, or None after a while without any. Called by the pusher process in a loop."""
        self.get_connection()  # drops a stale connection
        with wakeups.Waiter(self._topic()) as waiter:
            return self._claim() or (self._claim() if waiter.wait(LOOK_AGAIN) else None)

    def queue_size(self) -> int:
        """Tasks that wait."""
        return self.get_connection().filter(key=self.list_key).count()

    def lock_size(self) -> int:
        """A claimed task has no row."""
        return 0

    def delete(self, task_id: Any) -> None:
        """Nothing to do: the claim deleted it."""

    def _topic(self) -> str:
        return f"queue:{self.list_key}"

    def _claim(self) -> list[tuple[int, str]] | None:
        database = connections[Conf.ORM]
        table = database.ops.quote_name(OrmQ._meta.db_table)
        skip = " FOR UPDATE SKIP LOCKED" if database.features.has_select_for_update_skip_locked else ""
        query = (
            f"DELETE FROM {table} WHERE id = (SELECT id FROM {table} WHERE key = %s ORDER BY id LIMIT 1{skip})"  # noqa: S608
            " RETURNING id, payload"
        )
        if not OrmQ.objects.using(Conf.ORM).filter(key=self.list_key).exists():
            return None  # an empty queue takes no write lock
        with transaction.atomic(using=Conf.ORM), database.cursor() as cursor:
            cursor.execute(query, [self.list_key])
            return [(row[0], row[1]) for row in cursor.fetchall()] or None
