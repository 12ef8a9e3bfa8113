"""The page of an execution: what happened to it, and what it says while it runs."""

from __future__ import annotations

import uuid

import pytest

from executions_app import admin as pages
from sandbox_platform.models import Process
from tests.factories import ExecutionFactory, SessionFactory


def page(admin, execution) -> str:
    answer = admin.get(f"/admin/executions_app/execution/{execution.pk}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def session(admin):
    return SessionFactory(running=True)


def test_takeovers_and_retries_are_told_with_who_follows_it_now(admin, session):
    worker = Process.objects.create(id=uuid.uuid4(), kind="worker:runs", host="a-host", pid=4711)
    run = ExecutionFactory(session=session, status="running", takeovers=2, attempt=3, retry_lost=True, driver=worker.pk)
    text = page(admin, run)
    assert "2 times: the process that followed it had died" in text
    assert "3 of 3: it was lost and begun anew" in text
    assert "worker:runs 4711 on a-host</a>" in text


def test_a_plain_run_was_never_taken_over(admin, session):
    text = page(admin, ExecutionFactory(session=session, status="completed", exit_code=0))
    assert ">never<" in text
    assert ">1 of 1<" in text
    assert "data-live" not in text


def test_while_it_runs_its_output_comes_from_the_sandbox_inert_and_bounded(admin, session, monkeypatch):
    said = {"stdout": b"\x1b[31mtick\n" * 20000, "stderr": b""}
    monkeypatch.setattr(pages, "so_far", lambda execution, most: said)
    run = ExecutionFactory(session=session, status="running")
    text = page(admin, run)
    assert f'data-live="/admin/executions_app/execution/{run.pk}/live.json?status=running"' in text
    answer = admin.get(f"/admin/executions_app/execution/{run.pk}/live.json?status=running").json()
    assert answer["reload"] is False
    assert answer["fields"]["stdout"].startswith("␛[31mtick\n")
    assert len(answer["fields"]["stdout"]) <= pages.SHOWN
    assert answer["fields"]["stderr"] == "Nothing yet."


def test_the_page_is_made_anew_when_a_run_begins_and_when_it_is_done(admin, session):
    run = ExecutionFactory(session=session, status="pending")
    live = f"/admin/executions_app/execution/{run.pk}/live.json?status="
    assert admin.get(f"{live}pending").json() == {
        "fields": {"status": "pending", "stdout": "Nothing yet.", "stderr": "Nothing yet."},
        "reload": False,
    }
    assert admin.get(f"{live}running").json()["reload"] is True
    type(run).objects.filter(pk=run.pk).update(status="completed")
    assert admin.get(f"{live}completed").json()["reload"] is True


def test_live_output_is_for_those_who_may_see_executions(role, session):
    run = ExecutionFactory(session=session, status="running")
    url = f"/admin/executions_app/execution/{run.pk}/live.json"
    assert role("Auditor").get(url).status_code == 200
    assert role("Template curator").get(url).status_code == 404
