"""What a run that is driven by its own request writes on PostgreSQL: one statement at its start, one at its end."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django_q.models import OrmQ

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import ending, submit
from executions_app.services.finish import finish
from sandbox_platform import processes
from sessions_app.models import Session
from tests.factories import ExecutionFactory, SessionFactory

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]
VALUES = {"language": "python", "code": "def handler(event): return 1", "event": "{}", "timeout": 30, "args": ["a"]}
END = ending.without_result(None, "cancelled", "The execution was cancelled")


def test_it_takes_a_slot_and_does_not_wait_for_the_disk(django_assert_num_queries):
    session = SessionFactory(running=True)
    processes.own_id()  # this process is known from its first question on
    with transaction.atomic():
        with django_assert_num_queries(1):
            made = submit.submit_here(session, VALUES, "request-1")
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("off",)
    assert made is not None
    stored = Execution.objects.get(pk=made.pk)
    assert (stored.status, stored.args, stored.request_id) == (ExecutionStatus.RUNNING, ["a"], "request-1")
    assert (stored.driver, stored.project_id) == (made.driver, session.project_id)
    assert Session.objects.get(pk=session.pk).active_runs == 1


@pytest.mark.parametrize(
    "why", [{"active_runs": 4, "max_concurrency": 4}, {"closing": "expired"}, {"running": False, "status": "creating"}]
)
def test_without_a_slot_nothing_is_written(why):
    session = SessionFactory(**{"running": True, **why})
    assert submit.submit_here(session, VALUES, "") is None
    assert not Execution.objects.exists()
    assert Session.objects.get(pk=session.pk).active_runs == session.active_runs


def test_those_who_wait_go_first():
    session = SessionFactory(running=True)
    ExecutionFactory(session=session, project=session.project)
    assert submit.submit_here(session, VALUES, "") is None


def test_its_end_frees_the_slot_once_and_rings_for_the_next(django_assert_num_queries):
    session = SessionFactory(running=True)
    made = submit.submit_here(session, VALUES, "")
    with django_assert_num_queries(1):
        assert finish(made, END)
    assert not finish(Execution.objects.get(pk=made.pk), END)
    assert Session.objects.get(pk=session.pk).active_runs == 0
    assert not OrmQ.objects.exists()

    made = submit.submit_here(session, VALUES, "")
    ExecutionFactory(session=session, project=session.project)
    assert finish(made, END)
    assert [row.key for row in OrmQ.objects.all()] == ["runs"]
