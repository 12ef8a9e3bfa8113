"""For all tests: what a marked test needs of the machine is there, or it is skipped with the reason."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from sandbox_platform import processes
from tests import requirements


@pytest.fixture(autouse=True)
def _a_row_per_test_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the process went with the database of the test before."""
    monkeypatch.setattr(processes, "_own", None)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """PostgreSQL drops no database that a thread of ours, which lives as long as the process, still has a connection to."""
    yield
    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                others = "datname = current_database() AND pid <> pg_backend_pid()"
                cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for what in requirements.CHECKS:
        if item.get_closest_marker(what):
            requirements.need(what)
