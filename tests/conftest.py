"""For all tests: what a marked test needs of the machine is there, or it is skipped with the reason."""

import pytest

from sandbox_platform import processes
from tests import requirements


@pytest.fixture(autouse=True)
def _a_row_per_test_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the process went with the database of the test before."""
    monkeypatch.setattr(processes, "_own", None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for what in requirements.CHECKS:
        if item.get_closest_marker(what):
            requirements.need(what)
