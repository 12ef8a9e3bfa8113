"""Waiting for an answer: `Prefer: wait=N` (RFC 7240) and `?wait=N`, bounded so that waiters can't starve the API."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from rest_framework.request import Request

from sandbox_platform.errors import invalid

MAXIMUM = 60
PREFERENCE = re.compile(r'\s*wait\s*=\s*"?(\d{1,6})"?\s*(;.*)?', re.IGNORECASE)

_places = threading.BoundedSemaphore(max(1, int(settings.WEB_THREADS * settings.WEB_WAIT_SHARE)))


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
    try:
        yield got
    finally:
        if got:
            _places.release()
