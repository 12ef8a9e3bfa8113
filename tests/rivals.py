"""Somebody else who writes at the same moment, over a connection of their own. For tests with `transactional_db`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import OperationalError, connection, connections

PATIENCE = {"sqlite": "PRAGMA busy_timeout = 100", "postgresql": "SET lock_timeout = '100ms'"}


def kept_out(act: Callable[[], Any]) -> bool:
    """Have another connection run `act` now. True if it had to wait, and so gave up after a tenth of a second; False if it got through."""
    waited: list[bool] = []

    def run() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(PATIENCE[connection.vendor])
            act()
            waited.append(False)
        except OperationalError:
            waited.append(True)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return waited[0]
