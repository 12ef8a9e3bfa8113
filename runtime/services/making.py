"""Letting go of a container that this process was making, also while the database is away."""

from __future__ import annotations

import time

import structlog
from django.db import connection
from django.db.models import Q

from runtime.models import Container, ContainerStatus
from sandbox_platform import processes
from sandbox_platform.errors import OUTAGE

log = structlog.get_logger(__name__)
PAUSE = 0.5
"""Seconds between two tries."""


def let_go(rows: Q, to: str = "") -> None:
    """Of those rows, the ones that this process is making are nobody's from now on, and in the state `to` where one is given.

    Tries until the database answers: nobody else touches a row whose maker lives, so that it would hold its sandbox for ever. A worker that
    is ended meanwhile is a dead maker.
    """
    while True:
        try:
            mine = Container.objects.filter(rows, maker=processes.own_id(), status=ContainerStatus.CREATING)
            _ = mine.move(to, maker=None) if to else mine.update(maker=None)
            return
        except OUTAGE as error:
            log.warning("not_let_go", error=str(error))
            time.sleep(PAUSE)
            connection.close_if_unusable_or_obsolete()
