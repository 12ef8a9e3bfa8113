"""An execution as requests read it: one statement, without the ORM's compiler (see `direct`). Clients that poll ask all the time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from executions_app.models import Execution
from executions_app.services import target
from runtime.models import Container
from sandbox_platform import direct
from sessions_app.models import Session

ALL = tuple(field.attname for field in Execution._meta.concrete_fields)
# What was submitted may be a megabyte, and most only ask what came of it.
SUBMITTED = frozenset({"code", "event", "stdin", "args", "env_sealed", "working_directory"})
OUTCOME = tuple(name for name in ALL if name not in SUBMITTED)


@lru_cache(maxsize=8)
def with_target(names: tuple[str, ...]) -> str:
    """SELECT of those columns behind `target.COLUMNS`, up to the condition; the execution is `e`."""
    return f"""
        SELECT {target.COLUMNS}, {_columns(names)} FROM {Execution._meta.db_table} e
        JOIN {Session._meta.db_table} s ON s.id = e.session_id LEFT JOIN {Container._meta.db_table} c ON c.name = s.container_id
    """  # noqa: S608


def find(project_id: int, pk: str, names: tuple[str, ...] = OUTCOME) -> Execution | None:
    """The project's execution with its session and that one's container. None if it is not the project's. Other fields are deferred."""
    row = direct.one(
        f"{with_target(names)} WHERE e.id = %s AND e.project_id = %s", [pk.replace("\0", "\ufffd"), project_id]
    )
    if row is None:
        return None
    execution = _execution(names, row[-len(names) :])
    execution.session = target.of_row(row)
    return execution


def again(execution: Execution) -> Execution | None:
    """What became of it, by its row as it is now; of its session, what is known. None if it was deleted meanwhile."""
    row = direct.one(f"SELECT {_columns(OUTCOME)} FROM {Execution._meta.db_table} e WHERE id = %s", [execution.pk])  # noqa: S608
    if row is None:
        return None
    fresh = _execution(OUTCOME, row)
    fresh.session = execution.session
    return fresh


@lru_cache(maxsize=8)
def _columns(names: tuple[str, ...]) -> str:
    return ", ".join(f"e.{name}" for name in names)


def _execution(names: tuple[str, ...], values: Sequence[object]) -> Execution:
    return direct.partial(Execution, dict(zip(names, values, strict=True)))
