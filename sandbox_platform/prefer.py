"""Waiting for an answer: `Prefer: wait=N` (RFC 7240) and `?wait=N`, bounded so that waiters can't starve the API."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from rest_framework.request import Request

from sandbox_platform.errors import invalid

MAXIMUM = 60
PREFERENCE = re.compile(r'\s*wait\s*=\s*"?(\d{1,6})"?\s*(;.*)?', re.IGNORECASE)

# How many of those who found no place may come back per second and process.
COME_BACK_RATE = 20
LONGEST_ABSENCE = 30
_places = threading.BoundedSemaphore(max(1, int(settings.WEB_THREADS * settings.WEB_WAIT_SHARE)))
_refusals: deque[float] = deque(maxlen=COME_BACK_RATE * LONGEST_ABSENCE)


def wait_seconds(request: Request) -> int | None:
    """N of `Prefer: wait=N`, or None. Other preferences are ignored, as the RFC asks. 400 above 60."""
    for preference in request.headers.get("Prefer", "").split(","):
        if match := PREFERENCE.fullmatch(preference):
            if int(match[1]) > MAXIMUM:
                raise invalid(f"Prefer: wait must be at most {MAXIMUM} seconds")
            return int(match[1])
    return None


@contextmanager
def waiting_place() -> Iterator[bool]:
    """A place among the threads that may wait. False where all are taken: then answer at once."""
    got = _places.acquire(blocking=False)
    if not got:
        _refusals.append(time.monotonic())
    try:
        yield got
    finally:
        if got:
            _places.release()


def retry_after() -> str:
    """Seconds for `Retry-After` of an early answer: 1, and more the more found no place during the last second.

    Those who come back ask the database, too: without this, a crowd of them would take the processor from the runs they wait for.
    """
    since, count = time.monotonic() - 1.0, 0
    for at in reversed(_refusals.copy()):
        if at < since:
            break
        count += 1
    return str(min(LONGEST_ABSENCE, 1 + count // COME_BACK_RATE))
