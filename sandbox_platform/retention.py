"""Rows whose time is over are deleted some at a time: no statement holds locks for long, and no pass goes on for ever."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

BATCH = 500
MOST_BATCHES = 40


def delete_in_batches(rows: QuerySet[Any]) -> int:
    """Delete `rows`, with what hangs on them, BATCH at a time and MOST_BATCHES at the most: the next pass goes on. How many went."""
    deleted = 0
    for _ in range(MOST_BATCHES):
        keys = list(rows.order_by().values_list("pk", flat=True)[:BATCH])
        if not keys:
            break
        # The condition once more: a row may have changed since it was listed.
        rows.filter(pk__in=keys).delete()
        deleted += len(keys)
    return deleted
