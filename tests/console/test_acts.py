"""What operators do: asked first, by POST with CSRF, through the services, in the history, with a summary in bulk."""

from __future__ import annotations

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.test import Client
from django_q.models import OrmQ

from runtime.models import ContainerStatus
from sandbox_platform.models import ApiKey
from tests.factories import (
    ContainerFactory,
    ExecutionFactory,
    FailureFactory,
    SessionFactory,
    TemplateBuildFactory,
    TemplateVersionFactory,
)


def said(answer) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


@pytest.fixture
def session(admin):
    return SessionFactory(running=True)


def test_terminating_asks_first_and_stands_in_the_history(admin, session):
    url = f"/admin/sessions_app/session/{session.pk}/do/terminate/"
    asked = admin.get(url)
    assert "Running code is stopped" in asked.content.decode()
    session.refresh_from_db()
    assert not session.ended
    admin.post(url)
    session.refresh_from_db()
    assert (session.status, session.status_reason) == ("terminated", "terminated_by_operator")
    assert "root" in session.status_detail
    assert [entry.get_change_message() for entry in LogEntry.objects.all()] == ["Terminated"]
    assert "too late" in said(admin.post(url))


def test_a_post_without_the_token_of_its_form_does_nothing(admin, session):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="root"))
    assert strict.post(f"/admin/sessions_app/session/{session.pk}/do/terminate/").status_code == 403
    session.refresh_from_db()
    assert not session.ended


def test_whatever_is_asked_only_a_post_with_its_token_does_anything(admin, session):
    """Every act of every model: GET asks and changes nothing; without the token of the form, POST is refused."""
    ExecutionFactory(session=session, status="running")
    TemplateBuildFactory(version=TemplateVersionFactory(template=session.template))
    ApiKey.issue(session.project, "ci")
    FailureFactory()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="root"))
    tried = set()
    for model, pages in site._registry.items():
        for act in getattr(pages, "acts", ()):
            row = model._default_manager.first()
            url = f"/admin/{model._meta.app_label}/{model._meta.model_name}/{quote(row.pk)}/do/{act.name}/"
            before = model._default_manager.filter(pk=row.pk).values().get()
            text = admin.get(url).content.decode()
            assert "Keep things as they are" in text, url
            assert "csrfmiddlewaretoken" in text, url
            assert strict.post(url).status_code == 403, url
            assert model._default_manager.filter(pk=row.pk).values().get() == before, url
            tried.add(f"{model._meta.model_name}.{act.name}")
    assert {
        "session.terminate",
        "container.kill",
        "execution.cancel",
        "apikey.revoke",
        "templateversion.publish",
    } <= tried
    assert not LogEntry.objects.exists()


def test_extending_takes_seconds_and_says_what_is_wrong_with_them(admin, session):
    url = f"/admin/sessions_app/session/{session.pk}/do/extend/"
    assert "greater than or equal to 60" in admin.post(url, {"seconds": 5}).content.decode()
    admin.post(url, {"seconds": 1200})
    session.refresh_from_db()
    assert session.timeout == 1200


def test_many_at_once_ask_once_and_give_a_summary(admin, session):
    gone = SessionFactory(status="terminated")
    url, data = "/admin/sessions_app/session/", {"action": "terminate", "_selected_action": [session.pk, gone.pk]}
    asked = admin.post(url, data)
    assert "2 selected; 1 of them" in asked.content.decode()
    assert said(admin.post(url, {**data, "confirmed": "1"})) == "Terminated: 1. Left as they were: 1."


def test_cancelling_ends_a_run_that_waits(admin, session):
    execution = ExecutionFactory(session=session)
    admin.post(f"/admin/executions_app/execution/{execution.pk}/do/cancel/")
    execution.refresh_from_db()
    assert execution.error["error_code"] == "Sandbox.ExecCancelled"


def test_cancelling_a_build_says_that_it_was_asked_for(admin):
    build = TemplateBuildFactory(status="building")
    assert said(admin.post(f"/admin/templates_app/templatebuild/{build.pk}/do/cancel/")) == "Cancel requested."


@pytest.mark.parametrize(
    ("act", "closing", "ended", "orders"),
    [("drain", "terminated_by_operator", False, 0), ("remove", "", True, 1), ("kill", "", True, 2)],
)
def test_a_container_ends_through_its_session(admin, session, act, closing, ended, orders):
    from sessions_app.models import Session

    Session.objects.filter(pk=session.pk).update(active_runs=1)
    admin.post(f"/admin/runtime/container/{session.container.pk}/do/{act}/")
    session.refresh_from_db()
    assert (session.closing, session.ended, OrmQ.objects.count()) == (closing, ended, orders)


@pytest.mark.parametrize("act", ["drain", "remove", "kill"])
def test_one_that_serves_nobody_is_removed_by_a_worker(admin, act):
    container = ContainerFactory(status=ContainerStatus.WARM)
    admin.post(f"/admin/runtime/container/{container.pk}/do/{act}/")
    container.refresh_from_db()
    assert (container.status, OrmQ.objects.count()) == (ContainerStatus.STOPPING, 1)
