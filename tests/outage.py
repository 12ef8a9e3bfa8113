"""The database is away for two statements, or breaks off with a commit whose answer is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

WORDS = "terminating connection due to administrator command"


class Outage:
    """Counts the steps of this thread's connection; the `at`-th (a statement, or the answer to a commit) and the one after it fail."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, 0

    @property
    def began(self) -> bool:
        return self.steps > self.at

    def _step(self) -> None:
        self.steps += 1
        if self.steps - 1 in (self.at, self.at + 1):
            raise OperationalError(WORDS)

    def statement(self, execute: Callable[..., Any], *args: Any) -> Any:
        """Around each statement: it never arrives."""
        self._step()
        return execute(*args)

    def commit(self, commit: Callable[[], None]) -> None:
        """Around each commit: it arrives, its answer does not."""
        commit()
        self._step()


@contextmanager
def outage(at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    """One that begins at step `at` of what is done inside. Needs a test that commits."""
    broken, commit = Outage(at), connection._commit
    with monkeypatch.context() as patch, connection.execute_wrapper(broken.statement):
        patch.setattr(connection, "_commit", lambda: broken.commit(commit))
        yield broken
