from __future__ import annotations

import select
from typing import Any

import psycopg
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """An idle connection has nothing to read; one whose server went away has at least its end. So most checks need no round trip."""

    def is_usable(self) -> bool:
        """Ask the server only where the socket has something to say."""
        try:
            poll = select.poll()
            poll.register(self.connection.fileno(), select.POLLIN)
            quiet = not poll.poll(0)
        except (OSError, psycopg.Error):
            return False
        return quiet or super().is_usable()

    def prepared(self) -> Any:
        """A cursor that sends values beside the statement: the server parses and plans it once a connection, not once a call."""
        self.close_if_health_check_failed()
        self.ensure_connection()
        with self.wrap_database_errors:
            cursor = base.ServerBindingCursor(self.connection)  # type: ignore[attr-defined]
        return self._prepare_cursor(cursor)  # type: ignore[attr-defined]
