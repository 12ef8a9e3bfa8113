from __future__ import annotations

import os
import shutil

import pytest

from tests.executor.sandbox import Sandbox


@pytest.fixture(scope="session")
def bubblewrap():
    missing = "root" if os.geteuid() != 0 else "" if shutil.which("bwrap") else "bubblewrap"
    if missing and "bubblewrap" in os.environ.get("REQUIRE", ""):
        pytest.fail(f"REQUIRE names bubblewrap, but there is no {missing} here")
    if missing:
        pytest.skip(f"the executor's tests need {missing}")


@pytest.fixture
def make_sandbox(bubblewrap):
    """Starts executors with options of one's own."""
    made = []

    def make(*options: str, **kwargs) -> Sandbox:
        made.append(Sandbox(*options, **kwargs))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.close()


@pytest.fixture
def sandbox(make_sandbox):
    """A sandbox of the test's own: it may be filled, flooded and tampered with."""
    return make_sandbox()


@pytest.fixture(scope="module")
def shared(bubblewrap):
    """A sandbox for tests that leave nothing behind."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()
