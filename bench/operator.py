"""What an operator sets in the console, and what the rows say: straight in the database of the service under test."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

SMALL = {"cpu": "0.5", "memory": "256Mi"}
"""Resources of which two hundred fit on the node once it is overcommitted."""


class Operator:
    """One connection to the service's PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def node(self, **columns: Any) -> None:
        """Change every node."""
        self._update("runtime_node", "true", columns)

    def template(self, template_id: str, **columns: Any) -> None:
        """Change one template."""
        self._update("templates_app_template", f"id = '{template_id}'", columns)

    def one(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        row = self._connection.execute(query.encode(), values).fetchone()
        return row[0] if row else None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows."""
        return self._connection.execute(query.encode(), values).fetchall()

    def pool(self) -> tuple[int, int]:
        """Warm containers, and those that are being made or removed."""
        counts = dict(self.rows("SELECT status, count(*) FROM runtime_container GROUP BY status"))
        passing = sum(counts.get(status, 0) for status in ("creating", "stopping", "exited", "lost"))
        return counts.get("warm", 0), passing

    def held(self) -> int:
        """Ended sessions that have not given back what they held."""
        return int(
            self.one("SELECT count(*) FROM sessions_app_session WHERE ended_at IS NOT NULL AND released_at IS NULL")
        )

    def owed(self) -> int:
        """Sessions whose files are still to be copied."""
        return int(self.one("SELECT count(*) FROM sessions_app_storagedebt"))

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _update(self, table: str, where: str, columns: dict[str, Any]) -> None:
        pairs = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in columns)
        query = sql.SQL("UPDATE {} SET {} WHERE {}").format(sql.Identifier(table), pairs, sql.SQL(where))
        self._connection.execute(query, list(columns.values()))
