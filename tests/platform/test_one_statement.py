"""What a run writes on PostgreSQL: one statement at its submission or start, one at its end."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import claim, ending, submit
from executions_app.services.finish import finish
from sandbox_platform import processes
from sandbox_platform.broker import WakingBroker
from sandbox_platform.errors import ApiError
from sessions_app.models import Session
from tests.factories import ContainerFactory, ExecutionFactory, SessionFactory, issue

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]
VALUES = {"language": "python", "code": "def handler(event): return 1", "event": "{}", "timeout": 30, "args": ["a"]}
END = ending.without_result(None, "cancelled", "The execution was cancelled")


def test_it_takes_a_slot_and_does_not_wait_for_the_disk(django_assert_num_queries):
    session = SessionFactory(running=True)
    key, _token = issue(session.project)
    processes.own_id()  # this process is known from its first question on
    with transaction.atomic():
        with django_assert_num_queries(1):
            made = submit.submit_here(key, session.pk, VALUES, "request-1")
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
    assert submit.submit_here(issue(session.project)[0], session.pk, VALUES, "") is None
    assert not Execution.objects.exists()
    assert Session.objects.get(pk=session.pk).active_runs == session.active_runs


def test_another_project_finds_no_session_and_nothing_is_written():
    session = SessionFactory(running=True)
    assert submit.submit_here(issue(SessionFactory().project)[0], session.pk, VALUES, "") is None
    assert submit.submit_here(issue(session.project)[0], "sess_\0", VALUES, "") is None
    assert not Execution.objects.exists()


def test_a_language_that_the_template_has_not_takes_no_slot():
    session = SessionFactory(running=True, template__languages=["python"])
    assert submit.submit_here(issue(session.project)[0], session.pk, {**VALUES, "language": "javascript"}, "") is None
    assert not Execution.objects.exists()
    assert Session.objects.get(pk=session.pk).active_runs == 0


def test_it_brings_what_its_driver_needs_of_the_session():
    session = SessionFactory(running=True, container=ContainerFactory())
    made = submit.submit_here(issue(session.project)[0], session.pk, {**VALUES, "env_vars": {"A": "1"}}, "")
    assert made is not None
    with CaptureQueriesContext(connection) as asked:
        assert made.session.container.socket == session.container.socket
        assert made.env_vars == {**session.env_vars, "A": "1"}
    assert not asked.captured_queries


def test_those_who_wait_go_first():
    session = SessionFactory(running=True)
    ExecutionFactory(session=session, project=session.project)
    assert submit.submit_here(issue(session.project)[0], session.pk, VALUES, "") is None


def test_its_end_frees_the_slot_once_and_rings_for_the_next(django_assert_num_queries):
    session = SessionFactory(running=True)
    made = submit.submit_here(issue(session.project)[0], session.pk, VALUES, "")
    with django_assert_num_queries(1):
        assert finish(made, END)
    assert not finish(Execution.objects.get(pk=made.pk), END)
    assert Session.objects.get(pk=session.pk).active_runs == 0
    assert not OrmQ.objects.exists()

    made = submit.submit_here(issue(session.project)[0], session.pk, VALUES, "")
    ExecutionFactory(session=session, project=session.project)
    assert finish(made, END)
    assert [row.key for row in OrmQ.objects.all()] == ["runs"]


def test_a_submission_is_one_statement_and_brings_its_doorbell(django_assert_num_queries):
    session = SessionFactory(running=True)
    processes.own_id()
    with django_assert_num_queries(1):
        made = submit.submit_alone(session, VALUES, "request-1")
    stored = Execution.objects.get(pk=made.pk)
    assert (stored.status, stored.driver, stored.request_id) == (ExecutionStatus.PENDING, None, "request-1")
    (task,) = OrmQ.objects.all()
    assert (task.key, task.task["args"][0], task.task["args"][2]) == (
        "runs",
        "executions_app.tasks.dispatch",
        session.pk,
    )


@pytest.mark.parametrize(
    ("status", "code"), [("terminated", "SessionNotFound"), ("running", "TooManyRequestsExection")]
)
def test_a_submission_that_is_refused_leaves_nothing(settings, status, code):
    session = SessionFactory(running=True, **({"status": status} if status != "running" else {}))
    settings.MAX_PENDING_EXECUTIONS = 0
    with pytest.raises(ApiError) as refused:
        submit.submit_alone(session, VALUES, "")
    assert refused.value.code == code
    assert not Execution.objects.exists() and not OrmQ.objects.exists()


def test_a_task_is_claimed_once():
    submit.submit_alone(SessionFactory(running=True), VALUES, "")
    broker = WakingBroker(list_key="runs")
    ((_, payload),) = broker.dequeue()
    assert SignedPackage.loads(payload)["args"][0] == "executions_app.tasks.dispatch"
    assert not OrmQ.objects.exists()


@pytest.fixture
def database_behind():
    """The database's clock is ten minutes behind that of this host."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA behind")
        cursor.execute(
            "CREATE FUNCTION behind.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS "
            "$$ SELECT pg_catalog.statement_timestamp() - interval '10 minutes' $$"
        )
        cursor.execute("SET LOCAL search_path = behind, pg_catalog, public")


@pytest.mark.usefixtures("database_behind")
def test_the_time_out_of_a_session_is_judged_by_the_clock_that_set_it():
    session = SessionFactory(running=True)
    Session.objects.update(expires_at=Now() + dt.timedelta(seconds=300), last_activity_at=Now())
    made = submit.submit_here(issue(session.project)[0], session.pk, VALUES, "")
    assert made is not None
    assert finish(made, END)
    waiting = submit.submit_alone(session, VALUES, "")
    taken = claim.eldest(session.pk)
    assert taken is not None
    assert taken.pk == waiting.pk
    assert not Session.objects.filter(last_activity_at__gt=Now()).exists()

    Session.objects.update(expires_at=Now() - dt.timedelta(seconds=1))
    assert submit.submit_here(issue(session.project)[0], session.pk, VALUES, "") is None
    with pytest.raises(ApiError) as refused:
        submit.submit_alone(session, VALUES, "")
    assert refused.value.code == "SessionNotFound"
