"""`make test`: all tests on SQLite, then those that have to do with the database on PostgreSQL. Arguments go to pytest.

TEST_POSTGRES_URL names a server where the tests may create databases; without it a temporary one is started where
PostgreSQL is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests import postgres

# What does not run again beside PostgreSQL: what has no database, or one of its own.
NOT_ON_POSTGRES = [
    "tests/drivers",
    "tests/browser",
    "tests/clients",
    "tests/executor",
    "tests/egress",
    "tests/containment",
    "tests/test_images.py",
    "tests/test_npm_packages.py",
    "tests/e2e/test_files.py",
    "tests/e2e/test_quickstart.py",
    "tests/e2e/test_make_run.py",
]
BROWSER = "tests/browser"
WORKERS = ["--durations=12", "-n", os.environ.get("TEST_WORKERS", "2"), "--dist", "loadgroup"]
NO_TESTS = 5


def main(arguments: list[str]) -> int:
    """The exit code: 0 if both passes are green."""
    required = os.environ.get("REQUIRE", "").split(",")
    if any(os.path.exists(argument.partition("::")[0]) for argument in arguments):
        codes = [_pytest("SQLite", {}, arguments)]
    else:
        # Playwright leaves an event loop running in the process that has used it, in which Django refuses to touch a database.
        codes = [_pytest("SQLite", {}, [f"--ignore={BROWSER}", *arguments])]
        codes.append(_pytest("browser", {}, [BROWSER, "-n", "0", *arguments]))
    try:
        with _server() as url:
            ignored = [f"--ignore={path}" for path in NOT_ON_POSTGRES]
            codes.append(_pytest("PostgreSQL", {"DATABASE_URL": url}, [*ignored, *arguments]))
    except RuntimeError as error:
        print(f"\nThe pass on PostgreSQL was skipped: {error}", flush=True)
        if "postgres" in required:
            print("REQUIRE names postgres: this is a failure", flush=True)
            codes.append(1)
    return max(0 if code == NO_TESTS else code for code in codes)


@contextmanager
def _server() -> Iterator[str]:
    if url := os.environ.get("TEST_POSTGRES_URL"):
        yield url
    else:
        with postgres.server() as url:
            yield url


def _pytest(title: str, environment: dict[str, str], arguments: list[str]) -> int:
    print(f"\n=== {title} ===", flush=True)
    command = [sys.executable, "-m", "pytest", *WORKERS, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
