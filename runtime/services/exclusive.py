"""One at a time on this host, whichever process or thread asks."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings


@contextmanager
def only_one(what: str) -> Iterator[bool]:
    """True for one caller at a time; the others get False at once, so that they do not pile up until every worker waits."""
    path = Path(settings.STATE_DIR) / f"{what}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
