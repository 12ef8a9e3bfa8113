"""The session that a run is submitted to: what a submission needs of three rows, in one statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runtime.models import Container
from sandbox_platform import direct
from sessions_app.models import Session
from templates_app.models import Template

SESSION = ("id", "project_id", "template_id", "container_id", "status", "closing", "env_sealed", "last_activity_at")
CONTAINER = ("name", "ref", "socket")
COLUMNS = ", ".join([*(f"s.{name}" for name in SESSION), *(f"c.{name}" for name in CONTAINER)])
QUERY = f"""
    SELECT {COLUMNS}, t.languages
    FROM {Session._meta.db_table} s
    JOIN {Template._meta.db_table} t ON t.id = s.template_id
    LEFT JOIN {Container._meta.db_table} c ON c.name = s.container_id
    WHERE s.id = %s AND s.project_id = %s
"""  # noqa: S608


def find(project_id: int, session_id: str) -> tuple[Session, list[str]] | None:
    """The session (its other fields deferred) with its container, and the languages of its template. None if it is not the project's."""
    if "\0" in session_id:
        return None
    row = direct.one(QUERY, [session_id, project_id])
    if row is None:
        return None
    return of_row(row), json.loads(row[-1])


def of_row(row: Sequence[Any]) -> Session:
    """The session that begins the row, by COLUMNS."""
    session = direct.partial(Session, dict(zip(SESSION, row, strict=False)))
    of_container = dict(zip(CONTAINER, row[len(SESSION) :], strict=False))
    session.container = direct.partial(Container, of_container) if of_container["name"] else None
    return session
