"""One row written or read without the ORM's compiler, for the few statements of a run's hot path.

Measured on the way of `Prefer: wait`: the ORM spends 0.5 to 0.8 ms of processor time on building each statement, which is more than the
database needs to run it. Values still go through the model's fields, so that both databases get what they expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models

Row = TypeVar("Row", bound=models.Model)


def insert(row: models.Model) -> None:
    """INSERT a new row with all of its concrete fields. What the database would default must be set."""
    fields = row._meta.concrete_fields
    params = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(_insert_sql(type(row)), params)
    row._state.adding, row._state.db = False, connection.alias


def update(
    model: type[models.Model], pk: Any, values: Mapping[str, Any], condition: str, params: Sequence[Any]
) -> bool:
    """UPDATE the row `pk` if `condition` (SQL with placeholders for `params`) holds. True if it did."""
    names = tuple(values)
    prepared = [model._meta.get_field(name).get_db_prep_save(values[name], connection) for name in names]  # type: ignore[union-attr]
    with connection.cursor() as cursor:
        cursor.execute(_update_sql(model, names, condition), [*prepared, pk, *params])
        return cursor.rowcount == 1


def one(sql: str, params: Sequence[Any]) -> tuple[Any, ...] | None:
    """The first row of a statement, as it comes from the driver."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()


@lru_cache(maxsize=64)
def _insert_sql(model: type[models.Model]) -> str:
    quote = connection.ops.quote_name
    columns = [quote(field.column) for field in model._meta.concrete_fields]
    return (
        f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"  # noqa: S608
    )


@lru_cache(maxsize=256)
def _update_sql(model: type[models.Model], names: tuple[str, ...], condition: str) -> str:
    quote = connection.ops.quote_name
    columns = [model._meta.get_field(name).column for name in names]  # type: ignore[union-attr]
    changes = ", ".join(f"{quote(str(column))} = %s" for column in columns)
    key = quote(model._meta.pk.column)  # type: ignore[union-attr]
    return f"UPDATE {quote(model._meta.db_table)} SET {changes} WHERE {key} = %s AND {condition}"  # noqa: S608


def partial(model: type[Row], values: Mapping[str, Any]) -> Row:
    """An instance as if it had been read with `only(*values)`: by attribute names, its other fields deferred."""
    known = [field.attname for field in model._meta.concrete_fields if field.attname in values]
    return model.from_db(connection.alias, known, [values[name] for name in known])
