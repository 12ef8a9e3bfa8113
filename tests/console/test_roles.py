"""What each role may not do is not shown, and is refused."""

from __future__ import annotations

import pytest
from django.contrib.admin import site
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import RequestFactory
from django_q.models import Failure, OrmQ

from sandbox_platform.models import ApiKey
from templates_app import versions
from templates_app.models import Template
from tests.factories import ContainerFactory, ExecutionFactory, FailureFactory, ProjectFactory, SessionFactory

ACTS = {
    "session": ("sessions_app/session", ["terminate", "extend"]),
    "execution": ("executions_app/execution", ["cancel"]),
    "container": ("runtime/container", ["drain", "remove", "kill"]),
    "template": ("templates_app/template", ["build", "deprecate"]),
}
MAY_ACT = {"Operator": {"session", "execution", "container"}, "Template curator": {"template"}, "Auditor": set()}
MAY_SEE = {"Operator": set(ACTS), "Template curator": {"template"}, "Auditor": set(ACTS)}


@pytest.fixture
def pages(admin) -> dict[str, str]:
    """The URL of a row of each kind."""
    session = SessionFactory(running=True)
    execution = ExecutionFactory(session=session)
    versions.record(session.template)
    keys = {
        "session": session.pk,
        "execution": execution.pk,
        "container": session.container.pk,
        "template": session.template.pk,
    }
    return {kind: f"/admin/{ACTS[kind][0]}/{quote(key)}" for kind, key in keys.items()}


@pytest.mark.parametrize("name", MAY_ACT)
def test_a_role_sees_its_own_pages_and_acts_on_its_own_rows(role, pages, name):
    client = role(name)
    menu = client.get("/admin/").content.decode()
    for kind, page in pages.items():
        shown = client.get(f"{page}/change/")
        assert shown.status_code == (200 if kind in MAY_SEE[name] else 403), (kind, shown.status_code)
        assert (f"/admin/{ACTS[kind][0]}/" in menu) == (kind in MAY_SEE[name])
        for act in ACTS[kind][1]:
            assert (f"{page}/do/{act}/" in shown.content.decode()) == (kind in MAY_ACT[name]), (kind, act)
            assert client.get(f"{page}/do/{act}/").status_code == (200 if kind in MAY_ACT[name] else 403)
            if kind not in MAY_ACT[name]:
                assert client.post(f"{page}/do/{act}/").status_code == 403


@pytest.mark.parametrize("name", ["Operator", "Auditor"])
def test_only_curators_write_templates_and_try_them(role, pages, name):
    client = role(name)
    for url in (
        "/admin/templates_app/template/add/",
        "/admin/templates_app/template/import/",
        "/admin/try/python-basic/",
    ):
        assert client.get(url).status_code == 403
    before = versions.spec_of(Template.objects.get())
    assert client.post("/admin/templates_app/template/python-basic/change/", {"name": "Mine"}).status_code == 403
    assert versions.spec_of(Template.objects.get()) == before


@pytest.mark.parametrize("name", MAY_ACT)
def test_bulk_acts_are_for_those_who_may_act(role, pages, name):
    session = SessionFactory(running=True, container=ContainerFactory())
    data = {"action": "terminate", "_selected_action": [session.pk], "confirmed": "1"}
    role(name).post("/admin/sessions_app/session/", data)
    session.refresh_from_db()
    assert session.ended == (name == "Operator")


def test_keys_are_given_out_by_operators_alone(role, pages):
    answers = {name: role(name).get("/admin/sandbox_platform/apikey/add/").status_code for name in MAY_ACT}
    assert answers == {"Operator": 200, "Template curator": 403, "Auditor": 403}


def test_what_moves_on_a_page_is_refused_with_the_page(role, pages):
    curator = role("Template curator")
    assert curator.get(f"{pages['container']}/live.json").status_code == 403
    assert curator.get("/admin/runtime/container/figures.json?name=x").status_code == 403


def test_an_auditor_has_no_action_on_any_list_but_the_export(role):
    role("Auditor")
    request = RequestFactory().get("/admin/")
    request.user = User.objects.get(username="auditor")
    offered = {name for pages in site._registry.values() for name in pages.get_actions(request)}
    assert offered == {"export_selected"}


@pytest.mark.parametrize("name", MAY_ACT)
def test_a_task_that_failed_is_tried_again_by_operators_alone_and_once(role, name):
    failure, client, url = FailureFactory(), role(name), "/admin/django_q/failure/"
    data = {"action": "resubmit", "_selected_action": [failure.pk], "confirmed": "1"}
    for action in ("resubmit", "resubmit_task", "delete_selected"):
        client.post(url, {**data, "action": action, "post": "yes"})
    client.post(f"{url}{quote(failure.pk)}/do/resubmit/")
    client.post(f"{url}{quote(failure.pk)}/delete/", {"post": "yes"})
    orders = [(order.key, order.args()) for order in OrmQ.objects.all()]
    if name == "Operator":
        assert orders == [("builds", failure.args)]
        assert not Failure.objects.exists()
    else:
        assert orders == []
        assert Failure.objects.exists()


def test_the_page_of_a_failed_task_says_what_it_raised_and_changes_nothing(role):
    failure = FailureFactory(result="<b>broken</b>")
    page = role("Operator").get(f"/admin/django_q/failure/{failure.pk}/change/")
    assert "&lt;b&gt;broken" in page.content.decode()
    assert 'name="_save"' not in page.content.decode()


KEYS = "/admin/sandbox_platform/apikey/"


def test_an_operator_gives_no_key_that_writes_templates(role):
    client, project = role("Operator"), ProjectFactory()
    assert "templates:write" not in client.get(f"{KEYS}add/").content.decode()
    data = {"project": project.pk, "name": "mine"}
    refused = client.post(f"{KEYS}add/", {**data, "scopes": ["templates:write"]})
    assert "templates:write is not one of the available choices" in refused.content.decode()
    assert not ApiKey.objects.exists()
    client.post(f"{KEYS}add/", {**data, "scopes": ["containers:read_all"]})
    assert ApiKey.objects.get().scopes == ["containers:read_all"]


def test_who_may_change_templates_gives_a_key_that_does(admin):
    admin.post(f"{KEYS}add/", {"project": ProjectFactory().pk, "name": "mine", "scopes": ["templates:write"]})
    assert ApiKey.objects.get().scopes == ["templates:write"]


def test_a_key_stays_in_its_project_and_keeps_what_others_gave_it(role):
    key, _ = ApiKey.issue(ProjectFactory(), "theirs", scopes=["templates:write"])
    client, other = role("Operator"), ProjectFactory()
    operator = User.objects.get(username="operator")
    page = f"{KEYS}{key.pk}/change/"
    assert 'name="project"' not in client.get(page).content.decode()
    data = {"project": other.pk, "owner": operator.pk, "name": "renamed", "scopes": ["containers:read_all"]}
    assert client.post(page, data).status_code == 302
    again = ApiKey.objects.get()
    assert (again.name, again.project, again.owner) == ("renamed", key.project, None)
    assert again.scopes == ["containers:read_all", "templates:write"]


def test_an_auditor_sees_a_key_and_changes_nothing(role):
    key, _ = ApiKey.issue(ProjectFactory(), "theirs", scopes=["templates:write"])
    client = role("Auditor")
    assert "templates:write" in client.get(f"{KEYS}{key.pk}/change/").content.decode()
    assert client.post(f"{KEYS}{key.pk}/change/", {"name": "mine"}).status_code == 403
