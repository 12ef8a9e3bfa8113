"""One running service per kind of runtime, shared by the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import requirements
from tests.e2e.service import Service


@pytest.fixture(scope="session", params=["bubblewrap", "docker"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """`manage.py up` with that runtime."""
    requirements.need(request.param)
    service = Service(request.param)
    try:
        service.start()
        yield service
    finally:
        service.remove()
