"""Connections to PostgreSQL are checked without asking the server, and replaced where its end was closed."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def a_request_begins() -> None:
    connection.health_check_done = False
    connection.close_if_health_check_failed()


def test_an_idle_connection_is_kept_without_a_statement():
    before = backend()
    raw = connection.connection
    a_request_begins()
    assert connection.connection is raw and backend() == before


def test_one_that_the_server_has_ended_is_replaced():
    before = backend()
    parameters = {
        key: value
        for key, value in connection.get_connection_params().items()
        if key in ("dbname", "host", "user", "port", "password")
    }
    with psycopg.connect(**parameters, autocommit=True) as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 5000)", [before]).fetchone() == (True,)
    a_request_begins()
    assert backend() != before
