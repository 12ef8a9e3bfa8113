"""django-q2's broker on our database that wakes at once.

A task is claimed by deleting its row: delivery is at most once. That loses nothing, because the queue is only a doorbell: the rows of
sessions, executions and containers say what is to be done, and the ticker rings again for what is due and not under way.
"""

from __future__ import annotations

from typing import Any

from django.db import connections
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ

from sandbox_platform import direct, wakeups

# Seconds between looks without a wake-up.
LOOK_AGAIN = 2.0


class WakingBroker(ORM):
    """Enqueue in the caller's transaction, wake on commit, claim with one statement."""

    def enqueue(self, task: str) -> Any:
        """The row's id."""
        pk = super().enqueue(task)
        wakeups.publish(topic(self.list_key))
        return pk

    def dequeue(self) -> list[tuple[int, str]] | None:
        """One claimed task, or None after a while without any. Called by the pusher process in a loop."""
        self.get_connection()  # drops a stale connection
        with wakeups.Waiter(topic(self.list_key)) as waiter:
            return self._claim() or (self._claim() if waiter.wait(LOOK_AGAIN) else None)

    def queue_size(self) -> int:
        """Tasks that wait."""
        return self.get_connection().filter(key=self.list_key).count()

    def lock_size(self) -> int:
        """A claimed task has no row."""
        return 0

    def delete(self, task_id: Any) -> None:
        """Nothing to do: the claim deleted it."""

    def _claim(self) -> list[tuple[int, str]] | None:
        """One statement, its own transaction. If the database server crashes the task may come again: each is safe to repeat."""
        database = connections[Conf.ORM]
        table = database.ops.quote_name(OrmQ._meta.db_table)
        eldest = f"SELECT id FROM {table} WHERE key = %s ORDER BY id LIMIT 1"  # noqa: S608
        if database.vendor == "postgresql":
            query = f"DELETE FROM {table} USING {direct.NO_WAIT} WHERE id = ({eldest} FOR UPDATE SKIP LOCKED) RETURNING id, payload"  # noqa: S608
        elif OrmQ.objects.using(Conf.ORM).filter(key=self.list_key).exists():
            query = f"DELETE FROM {table} WHERE id = ({eldest}) RETURNING id, payload"  # noqa: S608
        else:
            return None  # an empty queue takes no write lock
        with database.cursor() as cursor:
            cursor.execute(query, [self.list_key])
            return [(row[0], row[1]) for row in cursor.fetchall()] or None


def topic(key: str) -> str:
    """What wakes those who wait for tasks of that key."""
    return f"queue:{key}"
