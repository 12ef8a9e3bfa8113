"""`make run` beside PostgreSQL: the queue's workers and waiters wake by NOTIFY there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
from django.conf import settings

from tests.e2e.service import Service

pytestmark = [pytest.mark.postgres, pytest.mark.bubblewrap, pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def database_url() -> Iterator[str]:
    """An empty database on the server that this pass runs against."""
    given = settings.DATABASES["default"]
    user, host, port = given["USER"], quote(given["HOST"], safe=""), given["PORT"] or 5432
    server, name = f"postgresql://{user}:{quote(given['PASSWORD'])}@{host}:{port}", f"sbxe_{secrets.token_hex(4)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"{server}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_service_runs_on_postgresql(database_url: str) -> None:
    service = Service("bubblewrap", DATABASE_URL=database_url)
    try:
        service.start()
        said = service.console()
        assert "PostgreSQL sbxe_" in said
        assert "Hello, Alice!" in said
        assert service.session.get(f"{service.url}/ready").json()["checks"]["database"] == "ok"
        service.stop()
        assert service.process is not None
        assert service.process.returncode == 0, service.console()
        assert list((service.state / "sandboxes").iterdir()) == []
    finally:
        service.remove()
