"""How long a run is waited for: its time-out counts from its start, which the executor tells."""

from __future__ import annotations

import math
import time


class Patience:
    """`until_start` seconds for the run to begin, `from_start` from then on, and `limit` in all, whatever the run does.

    One object serves all connections that follow the same run: only the first that is told of the start moves the end.
    """

    def __init__(self, until_start: float, from_start: float, limit: float = math.inf) -> None:
        now = time.monotonic()
        self._limit = now + limit
        self._end = now + until_start
        self._from_start = from_start
        self._started = False

    def started(self) -> None:
        """The run has begun. What is said of it a second time changes nothing."""
        if not self._started:
            self._started = True
            self._end = time.monotonic() + self._from_start

    @property
    def end(self) -> float:
        """When it is over, on the monotonic clock."""
        return min(self._end, self._limit)

    @property
    def left(self) -> float:
        """Seconds until then; negative afterwards."""
        return self.end - time.monotonic()

    @property
    def run_is_late(self) -> bool:
        """Whether the run itself has had all the time that it may have."""
        return self._end <= time.monotonic()
