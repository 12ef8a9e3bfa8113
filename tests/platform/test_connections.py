"""Connections to PostgreSQL are checked without asking the server, replaced where its end was closed, and given up where it is silent."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest
from django.db import OperationalError, close_old_connections, connection

from sandbox_platform import direct
from sandbox_platform.bells import Notify
from tests import cut

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


def end_of(backend: int) -> None:
    parameters = {
        key: value
        for key, value in connection.get_connection_params().items()
        if key in ("dbname", "host", "user", "port", "password")
    }
    with psycopg.connect(**parameters, autocommit=True) as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend]).fetchone() == (True,)


def test_one_that_the_server_has_ended_is_replaced():
    before = backend()
    end_of(before)
    a_request_begins()
    assert backend() != before


def test_one_that_the_server_has_ended_is_replaced_where_a_prepared_statement_is_the_first():
    before = backend()
    end_of(before)
    close_old_connections()
    assert direct.one("SELECT pg_backend_pid()", []) != (before,)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[cut.Wire]:
    with cut.wire(monkeypatch, None) as made:
        yield made


def test_a_network_that_swallows_a_statement_is_found_out(wire: cut.Wire):
    backend()
    wire.fall_silent()
    began = time.monotonic()
    with pytest.raises(OperationalError):
        backend()
    assert time.monotonic() - began < 10
    connection.close()
    assert backend(), "the next connection is a new one"


def test_who_listens_finds_out_as_well(wire: cut.Wire):
    with psycopg.connect(**Notify()._parameters, autocommit=True) as listening:
        listening.execute("LISTEN nothing")
        wire.fall_silent()
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            list(listening.notifies(timeout=30))
    assert time.monotonic() - began < 15
