"""For all tests: what a marked test needs of the machine is there, or it is skipped with the reason."""

import pytest

from tests import requirements


def pytest_runtest_setup(item: pytest.Item) -> None:
    for what in requirements.CHECKS:
        if item.get_closest_marker(what):
            requirements.need(what)
