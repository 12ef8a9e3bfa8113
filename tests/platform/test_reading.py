"""What is read without the ORM's compiler is what the ORM would read."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from executions_app.models import Execution
from executions_app.services import reading
from tests.factories import ContainerFactory, ExecutionFactory, SessionFactory

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 1, 6, 10, 5, 1, 250000, tzinfo=dt.UTC)
FULL = {
    **{"status": "failed", "code": "print('ä')", "event": '{"a": 1.0}', "stdin": b"\0\xff", "args": ["a", "b c"]},
    **{"env_sealed": b"sealed", "working_directory": "x", "timeout": 7, "retry_lost": True, "request_id": "r"},
    **{"driver": uuid.uuid4(), "attempt": 2, "takeovers": 3, "cancel_requested_at": NOW, "stdout": b"\0out"},
    **{"stderr": b"err", "stdout_omitted": 2**40, "stderr_omitted": 1, "exit_code": 137, "return_value": "[1, null]"},
    **{"error": {"error_code": "Sandbox.ExecException", "message": "ß"}, "duration_ms": 1.5, "cpu_time_ms": 0.25},
    **{
        "peak_memory_mb": 8.0,
        "artifacts": [{"path": "a", "size": 1, "change": "created"}],
        "artifacts_truncated": True,
    },
    **{"created_at": NOW, "started_at": NOW, "completed_at": NOW},
}


def plain(execution: Execution, names: tuple[str, ...]) -> dict[str, object]:
    values = {name: getattr(execution, name) for name in names}
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in values.items()}


@pytest.mark.parametrize("values", [{}, FULL], ids=["as submitted", "with all that can be in it"])
def test_every_field_is_as_the_orm_reads_it(values: dict[str, object]) -> None:
    made = ExecutionFactory(session=SessionFactory(running=True, container=ContainerFactory()), **values)
    expected = Execution.objects.select_related("session__container").get(pk=made.pk)
    with CaptureQueriesContext(connection) as asked:
        found = reading.find(made.project_id, made.pk, reading.ALL)
        assert found is not None
        assert plain(found, reading.ALL) == plain(expected, reading.ALL)
        assert found.session.last_activity_at == expected.session.last_activity_at
        assert found.session.status == expected.session.status
        assert found.session.container is not None
        assert found.session.container.socket == expected.session.container.socket
    assert len(asked) == 1, "nothing of it is fetched one by one"
    fresh = reading.again(found)
    assert fresh is not None
    assert plain(fresh, reading.OUTCOME) == plain(expected, reading.OUTCOME)


def test_what_is_not_there_is_none() -> None:
    made = ExecutionFactory()
    assert reading.find(ExecutionFactory().session.project_id + 1000, made.pk) is None
    assert reading.find(made.project_id, "exec_\0") is None
    Execution.objects.filter(pk=made.pk).delete()
    assert reading.again(made) is None
