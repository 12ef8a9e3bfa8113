"""Try it: code in a throw-away session of a template, through the services that the API uses. Also of a version that is not published."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from executions_app.models import Execution
from executions_app.serializers import MAX_CODE, MAX_EVENT, as_text
from executions_app.services import submit
from sandbox_platform.admin_show import SHOWN, inert
from sandbox_platform.errors import ApiError
from sandbox_platform.models import Project
from sessions_app.models import Reason, Session
from sessions_app.services import lifecycle
from templates_app.models import Template, TemplateVersion

# Trials belong to a project of their own: no tenant sees them.
PROJECT = "operators' trials"
# Seconds: of a run, and of the session if nobody looks at the result.
RUN_TIMEOUT, SESSION_TIMEOUT = 60, 120
HELLO = {
    "python": 'def handler(event):\n    print("Hello from the sandbox")\n    return {"sum": event["a"] + event["b"]}\n',
    "javascript": 'function handler(event) {\n  console.log("Hello from the sandbox");\n  return { sum: event.a + event.b };\n}\n',
    "shell": 'echo "Hello from the sandbox"\n',
}


class TrialForm(forms.Form):
    """What to run."""

    language = forms.ChoiceField()
    code = forms.CharField(
        strip=False, widget=forms.Textarea(attrs={"rows": 12, "class": "mono", "spellcheck": "false"})
    )
    event = forms.CharField(
        initial='{"a": 1, "b": 2}', required=False, strip=False, help_text="JSON, given to the handler.",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false"}),
    )  # fmt: skip

    def __init__(self, languages: list[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].initial = HELLO[languages[0]]
        self.fields["language"].choices = [(word, word) for word in languages]  # type: ignore[attr-defined]

    def clean_code(self) -> str:
        """As bounded as the API's."""
        code = self.cleaned_data["code"].replace("\r\n", "\n")
        if len(code.encode("utf-8", "replace")) > MAX_CODE or "\0" in code:
            raise forms.ValidationError(f"At most {MAX_CODE} bytes, without NUL")
        return code

    def clean_event(self) -> str:
        """JSON text, as sent."""
        text = self.cleaned_data["event"].strip() or "{}"
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise forms.ValidationError("This is not JSON") from None
        if len(text.encode("utf-8", "replace")) > MAX_EVENT:
            raise forms.ValidationError(f"At most {MAX_EVENT} bytes")
        return text


def urls(site: Any) -> list[URLPattern]:
    """For the console's site."""

    def form(request: HttpRequest, template_id: str) -> HttpResponse:
        return _form(site, request, template_id)

    def result(request: HttpRequest, template_id: str, execution_id: str) -> HttpResponse:
        return _result(site, request, template_id, execution_id)

    return [
        path("try/<slug:template_id>/", site.admin_view(form), name="try_template"),
        path("try/<slug:template_id>/<slug:execution_id>/", site.admin_view(result), name="try_result"),
        path("try/<slug:template_id>/<slug:execution_id>/live.json", site.admin_view(_live), name="try_live"),
    ]


def _template(request: HttpRequest, template_id: str) -> Template:
    if not request.user.has_perm("templates_app.change_template"):
        raise PermissionDenied
    template = Template.objects.kept().filter(pk=template_id).first()
    if template is None:
        raise Http404
    return template


def _version(request: HttpRequest, template: Template) -> TemplateVersion | None:
    """The one that is asked for; else the newest with a good build, for a template that was never published; else none."""
    rows = template.versions.order_by("-number")  # type: ignore[attr-defined]
    number = request.GET.get("version", "")
    if number.isascii() and number.isdigit() and len(number) < 9:
        version = rows.filter(number=int(number)).first()
        if version is None:
            raise Http404
        return version
    return rows.filter(builds__status="succeeded").first() if template.draft else None


def _form(site: Any, request: HttpRequest, template_id: str) -> HttpResponse:
    template = _template(request, template_id)
    version = _version(request, template)
    described = version.as_template() if version else template
    form = TrialForm(described.languages, request.POST or None)
    if template.draft and version is None:
        messages.warning(request, "It was never built: build it first, then try it.")
    elif request.method == "POST" and form.is_valid():
        try:
            execution = _start(request, described, version, form.cleaned_data)
        except ApiError as error:
            messages.error(request, f"Refused: {error.detail}")
        else:
            return HttpResponseRedirect(reverse("admin:try_result", args=[template.pk, execution.pk]))
    context = {
        **site.each_context(request), "title": f"Try {inert(template.name)}", "template": template, "version": version, "form": form,
        "possible": version is not None or not template.draft,
    }  # fmt: skip
    return TemplateResponse(request, "admin/try.html", context)


def _start(
    request: HttpRequest, template: Template, version: TemplateVersion | None, values: dict[str, Any]
) -> Execution:
    project, _ = Project.objects.get_or_create(name=PROJECT)
    labels = {"trial": "yes", "operator": request.user.get_username()}
    with transaction.atomic():
        saved = Template.objects.get(pk=template.pk)
        wanted = {
            "timeout": SESSION_TIMEOUT,
            "max_concurrency": 1,
            "labels": labels,
            "resources": template.default_resources,
        }
        session = lifecycle.create(project, saved, wanted, version)
        run = {"language": values["language"], "code": values["code"], "event": values["event"], "timeout": RUN_TIMEOUT}
        execution = submit.submit(session, run, getattr(request, "request_id", ""), drive_here=False)
        LogEntry.objects.log_actions(request.user.pk or 0, [saved], CHANGE, change_message=f"Tried in {session.pk}")
    return execution


def _trial(request: HttpRequest, template_id: str, execution_id: str) -> Execution:
    """A run of a trial of this template: a tenant's runs are not shown here."""
    template = _template(request, template_id)
    rows = Execution.objects.select_related("session")
    execution = rows.filter(pk=execution_id, session__template=template, project__name=PROJECT).first()
    if execution is None:
        raise Http404
    return execution


def _result(site: Any, request: HttpRequest, template_id: str, execution_id: str) -> HttpResponse:
    execution = _trial(request, template_id, execution_id)
    context = {
        **site.each_context(request), "title": "Trial", "template": execution.session.template, "execution": execution,
        "live_url": reverse("admin:try_live", args=[template_id, execution_id]),
    }  # fmt: skip
    return TemplateResponse(request, "admin/try_result.html", context)


def _live(request: HttpRequest, template_id: str, execution_id: str) -> JsonResponse:
    """What there is by now. Once it is done, the session ends: it was for this run alone."""
    execution = _trial(request, template_id, execution_id)
    session = Session.objects.get(pk=execution.session_id)
    if execution.done and not session.ended:
        lifecycle.end(session.pk, Reason.TERMINATED_BY_OPERATOR, "The trial is over")
    error = execution.error or {}
    waiting = session.status_detail if session.status == "creating" else ""
    fields = {
        "status": execution.status,
        "detail": inert(str(error.get("message") or waiting or "")),
        "took": "" if execution.duration_ms is None else f"{execution.duration_ms:,.1f} ms",
        "stdout": inert(as_text(execution.stdout)[:SHOWN]),
        "stderr": inert(as_text(execution.stderr)[:SHOWN]),
        "result": inert((execution.return_value or "")[:SHOWN]),
        "connection": "",
    }
    return JsonResponse({"fields": fields, "done": execution.done})
