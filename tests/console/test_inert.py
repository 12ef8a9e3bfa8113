"""Whatever a tenant writes is text on every page; what is secret is on none; and the browser runs no script but ours."""

from __future__ import annotations

import json
import uuid

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.utils import timezone
from django_q.models import Failure

from console import trial
from executions_app.models import Execution
from sandbox_platform import crypto
from sandbox_platform.admin_show import SHOWN, code, inert, pre
from sandbox_platform.models import ApiKey, Process
from sessions_app.models import Session
from tests.factories import (
    ExecutionFactory,
    ProjectFactory,
    SessionFactory,
    TemplateBuildFactory,
    TemplateFactory,
    TemplateVersionFactory,
)

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31mred\x1b[0m\u202eesrever"
SECRET = "the-tenant-does-not-want-this-shown"


@pytest.fixture
def evil(admin) -> Execution:
    project = ProjectFactory(name="<script>alert(1)</script>")
    template = TemplateFactory(id="evil", name=EVIL.replace("\x1b", ""), description=EVIL.replace("\x1b", ""))
    session = SessionFactory(running=True, project=project, template=template, labels={EVIL: EVIL}, status_detail=EVIL,
                             env_names=["TOKEN"], env_sealed=crypto.seal({"TOKEN": SECRET}))  # fmt: skip
    error = {"error_code": EVIL, "type": EVIL, "message": EVIL, "traceback": EVIL}
    return ExecutionFactory(
        session=session, status="failed", code=EVIL, event=json.dumps(EVIL), stdout=EVIL.encode(), stderr=EVIL.encode() + b"\xff\x00",
        return_value=json.dumps(EVIL), error=error, args=[EVIL], working_directory=EVIL, request_id=EVIL,
        artifacts=[{"path": EVIL}], env_sealed=crypto.seal({"TOKEN": SECRET}),
    )  # fmt: skip


def test_what_a_tenant_wrote_is_text_on_every_page(admin, evil):
    session = evil.session
    pages = [
        "/admin/", "/admin/sessions_app/session/", "/admin/executions_app/execution/", "/admin/runtime/container/",
        "/admin/templates_app/template/", "/admin/templates_app/template/evil/change/", "/admin/sandbox_platform/project/",
        f"/admin/sessions_app/session/{session.pk}/change/", f"/admin/executions_app/execution/{evil.pk}/change/",
        f"/admin/runtime/container/{session.container.pk}/change/", f"/admin/executions_app/execution/{evil.pk}/do/cancel/",
    ]  # fmt: skip
    for page in pages:
        answer = admin.get(page)
        text = answer.content.decode()
        assert answer.status_code == 200, page
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page
        assert "\x1b" not in text, page
        assert SECRET not in text, page
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    shown = admin.get(pages[8]).content.decode()
    assert "\u202e" not in shown
    assert "␛[31mred" in shown


def test_no_page_of_any_registered_model_lets_text_act(admin, evil):
    """Every list and every row's page and act, those of apps of others too: a new model is looked at without being named here."""
    version = TemplateVersionFactory(
        template=evil.session.template, note=EVIL, spec={"name": EVIL, "description": EVIL, "npm_packages": [EVIL]}
    )
    TemplateBuildFactory(
        version=version,
        status="failed",
        log=EVIL,
        ref=EVIL,
        digest=EVIL[:40],
        packages=[EVIL],
        smoke=[[EVIL, False, EVIL]],
    )
    Failure.objects.create(id="f" * 32, name=EVIL[:90], func=EVIL, args=(EVIL,), kwargs={}, result=EVIL, success=False,
                           started=timezone.now(), stopped=timezone.now(), group=EVIL[:90])  # fmt: skip
    Process.objects.create(id=uuid.uuid4(), kind=EVIL[:40], host=EVIL, pid=1)
    root = User.objects.get(username="root")
    LogEntry.objects.log_actions(root.pk, [evil.session.template], 2, change_message=EVIL)
    looked = []
    for model, pages in site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        acts = [f"do/{act.name}/" for act in getattr(pages, "acts", ())]
        rows = [f"{base}{quote(row.pk)}/" for row in model._default_manager.all()[:3]]
        for page in [base, *(f"{row}{end}" for row in rows for end in ["change/", "history/", *acts])]:
            answer = admin.get(page)
            text = answer.content.decode()
            assert answer.status_code in (200, 302), (page, answer.status_code)
            assert "<script>alert" not in text, page
            assert "<img src=x" not in text, page
            assert SECRET not in text, page
            looked.append(page)
    assert any("templatebuild" in page and "change" in page for page in looked)
    assert any("failure" in page and "change" in page for page in looked)
    build = next(page for page in looked if "templatebuild" in page and "change" in page)
    assert "␛[31mred" in admin.get(build).content.decode()


def test_the_log_of_a_build_and_a_trial_s_output_are_text_also_while_they_come(admin, evil):
    build = TemplateBuildFactory(
        version=TemplateVersionFactory(template=evil.session.template), status="building", log=EVIL
    )
    fields = admin.get(f"/admin/templates_app/templatebuild/{build.pk}/live.json").json()["fields"]
    assert "\x1b" not in fields["log"]
    evil.project.name = trial.PROJECT
    evil.project.save()
    answer = admin.get(f"/admin/try/evil/{evil.pk}/live.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert "\x1b" not in answer.content.decode() + "".join(answer.json()["fields"].values())
    page = admin.get(f"/admin/try/evil/{evil.pk}/").content.decode()
    assert "<script>alert" not in page


def test_names_of_env_vars_are_shown_and_their_values_masked(admin, evil):
    assert "TOKEN=••••" in admin.get(f"/admin/sessions_app/session/{evil.session.pk}/change/").content.decode()


def test_a_token_is_shown_once_and_never_again(admin, evil):
    project = Session.objects.get().project
    made = admin.post(
        "/admin/sandbox_platform/apikey/add/", {"project": project.pk, "name": "ci", "scopes": ["templates:write"]}
    )
    key = ApiKey.objects.get(name="ci")
    token = next(
        word
        for word in made.content.decode().replace("<", " ").replace(">", " ").split()
        if word.startswith(f"sbx_{key.prefix}_")
    )
    assert key.matches(token)
    assert "no-store" in made.headers["Cache-Control"]
    assert "messages" not in made.cookies
    for page in (
        f"/admin/sandbox_platform/apikey/{key.pk}/change/",
        "/admin/sandbox_platform/apikey/",
        "/admin/admin/logentry/",
    ):
        text = admin.get(page).content.decode()
        assert token not in text
        assert key.digest not in text


def test_a_revoked_key_is_refused(admin, evil, client):
    key, token = ApiKey.issue(Session.objects.get().project, "old")
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/v1/sessions", headers=headers).status_code == 200
    admin.post(f"/admin/sandbox_platform/apikey/{key.pk}/do/revoke/")
    assert client.get("/api/v1/sessions", headers=headers).status_code == 401


def test_long_text_is_cut_and_says_so():
    assert len(pre("x" * (SHOWN * 3))) < SHOWN + 500
    assert f"of {SHOWN * 3} characters" in pre("x" * (SHOWN * 3))


def test_colours_add_nothing_but_spans():
    html = code("print('<b>&')  # \x1b[0m", "python")
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;" in html


def test_control_characters_are_pictures_of_themselves():
    assert inert("a\x00b\x1b[2Jc\x7f\x9b\r\nd\re") == "a␀b␛[2Jc␡⟨009B⟩\nd␍e"
