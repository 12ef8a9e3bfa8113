"""One row written or read without the ORM's compiler, for the few statements of a run's hot path.

Measured on the way of `Prefer: wait`: the ORM spends 0.5 to 0.8 ms of processor time on building each statement, which is more than the
database needs to run it. Values still go through the model's fields, so that both databases get what they expect. PostgreSQL parses and
plans each of these statements once a connection (0.2 ms a statement otherwise).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models

# On PostgreSQL, for the transaction that it stands in: the commit does not wait for the disk. In FROM, so that it is evaluated whatever is
# selected; for what may be lost with the database server itself, because it is told to nobody or found again.
NO_WAIT = "set_config('synchronous_commit', 'off', true)"
# The database's own clock, by which every limit in time is set and judged: those of the hosts may differ. As Django's `Now()` says it.
NOW = "statement_timestamp()" if connection.vendor == "postgresql" else "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"
Row = TypeVar("Row", bound=models.Model)


def chains() -> bool:
    """Whether one statement may hold several that change rows (WITH ... UPDATE): a round trip in place of a transaction of many."""
    return connection.vendor == "postgresql"


def insert(row: models.Model) -> None:
    """INSERT a new row with all of its concrete fields. What the database would default must be set."""
    columns, params = columns_of(row)
    with _cursor() as cursor:
        cursor.execute(f"INSERT INTO {columns} VALUES ({', '.join(['%s'] * len(params))})", params)  # noqa: S608
    inserted(row)


def columns_of(row: models.Model) -> tuple[str, list[Any]]:
    """`table (column, ...)` for an INSERT of all concrete fields, and their values."""
    fields = row._meta.concrete_fields
    return _columns(type(row)), [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]


def inserted(row: models.Model) -> None:
    """The row is in the database now."""
    row._state.adding, row._state.db = False, connection.alias


def update(
    model: type[models.Model], pk: Any, values: Mapping[str, Any], condition: str, params: Sequence[Any]
) -> bool:
    """UPDATE the row `pk` if `condition` (SQL with placeholders for `params`) holds. True if it did."""
    changes, prepared = changes_of(model, values)
    key = connection.ops.quote_name(str(model._meta.pk.column))  # type: ignore[union-attr]
    sql = f"UPDATE {model._meta.db_table} SET {changes} WHERE {key} = %s AND {condition}"  # noqa: S608
    with _cursor() as cursor:
        cursor.execute(sql, [*prepared, pk, *params])
        return cursor.rowcount == 1


def changes_of(model: type[models.Model], values: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """`column = %s, ...` for an UPDATE, and the values."""
    names = tuple(values)
    prepared = [model._meta.get_field(name).get_db_prep_save(values[name], connection) for name in names]  # type: ignore[union-attr]
    return _changes(model, names), prepared


def one(sql: str, params: Sequence[Any]) -> tuple[Any, ...] | None:
    """The first row of a statement, as it comes from the driver."""
    with _cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()


def _cursor() -> Any:
    return connection.prepared() if connection.vendor == "postgresql" else connection.cursor()  # type: ignore[attr-defined]


@lru_cache(maxsize=64)
def _columns(model: type[models.Model]) -> str:
    quote = connection.ops.quote_name
    columns = ", ".join(quote(field.column) for field in model._meta.concrete_fields)
    return f"{quote(model._meta.db_table)} ({columns})"


@lru_cache(maxsize=256)
def _changes(model: type[models.Model], names: tuple[str, ...]) -> str:
    columns = [model._meta.get_field(name).column for name in names]  # type: ignore[union-attr]
    return ", ".join(f"{connection.ops.quote_name(str(column))} = %s" for column in columns)


def partial(model: type[Row], values: Mapping[str, Any]) -> Row:
    """An instance as if it had been read with `only(*values)`: by attribute names, as the driver gives them; other fields are deferred."""
    known, found = _known(model, tuple(values)), []
    for field, converters in known:
        value = values[field.attname]
        for convert in converters:
            value = convert(value, field.cached_col, connection)
        found.append(value)
    return model.from_db(connection.alias, [field.attname for field, _ in known], found)


@lru_cache(maxsize=64)
def _known(model: type[models.Model], names: tuple[str, ...]) -> list[tuple[Any, list[Any]]]:
    """The fields of those names, in the model's order, each with what makes its value of a column's: the database's part and its own."""
    of_database = connection.ops.get_db_converters
    fields = [field for field in model._meta.concrete_fields if field.attname in names]
    return [
        (field, [*of_database(field.cached_col), *field.get_db_converters(connection)])  # type: ignore[attr-defined]
        for field in fields
    ]
