"""A million rows in a minute: the database copies one row of each kind, with other values in the columns that matter.

They are spread over the 30 days for which records are kept. One run in thirty fails; the last few sessions and runs are alive.
"""

from __future__ import annotations

from django.db import connection, models

from executions_app.models import Execution
from runtime.models import Container
from sandbox_platform.models import Project
from sessions_app.models import Session
from tests.factories import ExecutionFactory, SessionFactory

ALIVE, WAITING = 150, 20


def fill(runs: int, projects: list[Project]) -> None:
    """`runs` executions in a tenth as many sessions with a container each. PostgreSQL only."""
    sessions, first = max(200, runs // 10), projects[0].pk
    session = SessionFactory(running=True, project=projects[0], expires_at=None)
    run = ExecutionFactory(
        session=session, code='print("some code")\n' * 10, stdout=b"output " * 30, exit_code=0, status="completed"
    )
    live = f"n > {sessions - ALIVE}"
    end = f"CASE WHEN {live} THEN NULL ELSE {_at(sessions)} + interval '5 min' END"
    _copy(Container, session.container.pk, sessions, {
        "name": "'sbx-' || lpad(to_hex(n), 16, '0')", "ref": "lpad(to_hex(n), 64, '0')",
        "status": f"CASE WHEN {live} THEN 'running' ELSE 'removed' END",
        "created_at": _at(sessions), "started_at": _at(sessions), "ended_at": end,
    })  # fmt: skip
    _copy(Session, session.pk, sessions, {
        "id": "'sess_' || lpad(n::text, 16, '0')", "project_id": f"{first} + n % {len(projects)}",
        "container_id": "'sbx-' || lpad(to_hex(n), 16, '0')",
        "status": f"CASE WHEN {live} THEN 'running' WHEN n % 30 = 0 THEN 'failed' ELSE 'terminated' END",
        "status_reason": f"CASE WHEN {live} THEN '' WHEN n % 60 = 0 THEN 'oom_killed' "
        "WHEN n % 30 = 0 THEN 'start_failed' ELSE 'terminated_by_client' END",
        "created_at": f"{_at(sessions)} - interval '100 ms'", "started_at": _at(sessions), "ended_at": end, "released_at": end,
    })  # fmt: skip
    done = f"CASE WHEN n > {runs - WAITING} THEN NULL ELSE {_at(runs)} END"
    in_session = f"1 + (n - 1)::bigint * {sessions} / {runs}"
    _copy(Execution, run.pk, runs, {
        "id": f"'exec_' || to_char({_at(runs)}, 'YYYYMMDD') || '_' || lpad(n::text, 16, '0')", "number": "n",
        "session_id": f"'sess_' || lpad(({in_session})::text, 16, '0')", "project_id": f"{first} + ({in_session}) % {len(projects)}",
        "status": f"CASE WHEN n > {runs - WAITING} THEN 'pending' WHEN n % 90 = 0 THEN 'timeout' "
        "WHEN n % 30 = 0 THEN 'failed' ELSE 'completed' END",
        "error": """CASE WHEN n % 90 = 0 THEN '{"error_code": "Sandbox.ExecTimeout"}'::jsonb
                         WHEN n % 30 = 0 THEN '{"error_code": "Sandbox.ExecException"}'::jsonb END""",
        "duration_ms": "5 + n % 900", "created_at": _at(runs), "started_at": _at(runs), "completed_at": done,
    })  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _at(count: int) -> str:
    return f"(now() - interval '30 days' * (1 - n / {count}::float))"


def _copy(model: type[models.Model], prototype: str, count: int, columns: dict[str, str]) -> None:
    """`count` rows like the one with that key, numbered by n, apart from `columns`: SQL expressions."""
    names = [field.column for field in model._meta.concrete_fields]
    table, key = model._meta.db_table, model._meta.pk.column
    values = ", ".join(columns.get(name, f"p.{name}") for name in names)
    rows = f"SELECT {values} FROM generate_series(1, {count}) n, {table} p WHERE p.{key} = %s"
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(f"INSERT INTO {table} ({', '.join(names)}) {rows.replace(' % ', ' %% ')}", [prototype])
