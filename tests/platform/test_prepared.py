"""The statements of the hot path are planned once a connection, and mean what they meant."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection

from sandbox_platform import direct

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL prepares statements"),
]


def planned() -> int:
    """Statements that this connection's server holds ready."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%made for a test%%'")
        return cursor.fetchone()[0]


def test_a_statement_is_planned_once() -> None:
    for number in range(5):
        assert direct.one("SELECT %s + 1 /* made for a test */", [number]) == (number + 1,)
    assert planned() == 1


def test_values_never_become_part_of_it() -> None:
    hostile = "'; DROP TABLE auth_user; -- %s \\ \u2028"
    assert direct.one("SELECT %s::text /* made for a test */", [hostile]) == (hostile,)
    moment = dt.datetime(2026, 1, 6, 10, 5, tzinfo=dt.UTC)
    assert direct.one("SELECT %s::timestamptz, %s::text, %s::bytea", [moment, None, b"\0"]) == (moment, None, b"\0")


def test_a_statement_that_failed_does_not_hold_up_the_next(transactional_db: None) -> None:
    with pytest.raises(Exception, match="division by zero"):
        direct.one("SELECT 1 / %s /* made for a test */", [0])
    assert direct.one("SELECT 1 / %s /* made for a test */", [1]) == (1,)
