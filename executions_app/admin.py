"""Executions: inspection and cancellation by operators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from executions_app.models import Execution, ExecutionStatus
from executions_app.serializers import as_text
from executions_app.services import drive, submit
from executions_app.services.so_far import so_far
from sandbox_platform.admin_actions import Act
from sandbox_platform.admin_base import Card, WatchedAdmin
from sandbox_platform.admin_lists import SinceFilter
from sandbox_platform.admin_show import SHOWN, as_json, badge, code, inert, link, moment, pre, table, timeline
from sandbox_platform.models import Process

WAITING = "Nothing yet."
LARGE = ("code", "event", "stdin", "args", "env_sealed", "stdout", "stderr", "return_value", "artifacts")
FAULTS = (
    "ExecException", "ExecTimeout", "ExecCancelled", "ExecLost", "ExecOutOfMemory", "ExecOutputLimit", "ExecInvalidResult",
    "SessionEnded",
)  # fmt: skip


class FaultFilter(SimpleListFilter):
    """Why a run failed."""

    title = "fault"
    parameter_name = "fault"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The closed list."""
        return [(f"Sandbox.{name}", name) for name in FAULTS]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Among the failed: their index narrows it down first."""
        if not self.value():
            return queryset
        failed = queryset.filter(status__in=[ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT])
        return failed.filter(error__error_code=self.value())


def cancel(request: HttpRequest, execution: Execution, values: Mapping[str, Any]) -> bool:
    """As the API does it."""
    submit.cancel(execution)
    return True


@admin.register(Execution)
class ExecutionAdmin(WatchedAdmin):
    """What a tenant's code said is shown escaped, as it stands, up to a bound. Values of env_vars are never shown."""

    list_display = ["id", "state", "language", "session_link", "project", "exit_code", "took", "created"]
    list_filter = ["status", SinceFilter, FaultFilter, "project"]
    list_select_related = ["session", "project"]
    search_fields = ["id"]
    search_help_text = "An execution's or a session's id, or its beginning"
    search_prefixes = {"exec_": "pk__startswith", "sess_": "session__pk__startswith"}
    empty_hint = "They appear here once somebody runs code: POST /api/v1/sessions/{id}/execute."
    acts = (
        Act(
            "cancel", "Cancel", "Cancelled",
            "A run that waits ends at once; one that runs is stopped with all its processes. What it printed so far is kept.",
            cancel, possible=lambda execution: not execution.done,
        ),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Lists do without the large columns; a page has them all in one query."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match and match.kwargs.get("object_id"):
            return rows.select_related("session__container", "project")
        return rows.defer(*LARGE, "error", "session__labels", "session__env_sealed", "session__status_detail")

    def get_urls(self) -> list[URLPattern]:
        """And the output while it grows."""
        live = path("<path:object_id>/live.json", self.admin_site.admin_view(self.live_view), name="execution_live")
        return [live, *super().get_urls()]

    def live_url(self, row: Execution) -> str:
        """Until it is done."""
        if row.done:
            return ""
        return f"{reverse('admin:execution_live', args=[row.pk])}?status={row.status}"

    def live_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """State and output; the page is made anew when it begins and when it is done."""
        row = self.get_queryset(request).filter(pk=object_id).first()
        if row is None or not self.has_view_permission(request, row):
            raise Http404
        said = so_far(row, SHOWN) if row.status == ExecutionStatus.RUNNING else {"stdout": b"", "stderr": b""}
        fields = {name: inert(as_text(data)[:SHOWN]) or WAITING for name, data in said.items()}
        changed = row.status != request.GET.get("status", row.status)
        return JsonResponse({"fields": {"status": row.status, **fields}, "reload": row.done or changed})

    @admin.display(description="Status")
    def state(self, execution: Execution) -> SafeString:
        """In colour."""
        return badge(execution.status)

    @admin.display(description="Session")
    def session_link(self, execution: Execution) -> SafeString | str:
        """To its page."""
        return link(execution.session)

    @admin.display(description="Took")
    def took(self, execution: Execution) -> str:
        """In milliseconds."""
        return "–" if execution.duration_ms is None else f"{execution.duration_ms:,.1f} ms"

    @admin.display(description="Created")
    def created(self, execution: Execution) -> SafeString | str:
        """How long ago."""
        return moment(execution.created_at)

    def cards(self, request: HttpRequest, row: Execution) -> list[Card]:
        """Facts, then what went in and what came out."""
        error = row.error or {}
        cards = [
            Card("Run", table(_facts(row))),
            Card("Timeline", timeline(_steps(row))),
            Card("Code", code(row.code, row.language, "Code"), wide=True),
            Card("Standard output", _output(row, "stdout", "Standard output"), wide=True),
            Card("Standard error", _output(row, "stderr", "Standard error"), wide=True),
            Card("Event", code(row.event, "json", "Event")),
            Card("Return value", code(row.return_value or "", "json", "Return value")),
        ]
        if error:
            text = "\n\n".join(str(error.get(key) or "") for key in ("message", "traceback")).strip()
            title = f"Fault: {error.get('error_code', '')} {error.get('type') or ''}"
            cards.insert(2, Card(inert(title), pre(text, "Fault"), wide=True))
        if row.artifacts:
            cards.append(Card("Files that it changed", as_json(row.artifacts, "Artifacts"), wide=True))
        return cards


def _facts(row: Execution) -> list[tuple[str, Any]]:
    return [
        ("Status", _status(row)), ("Session", link(row.session)), ("Container", link(row.session.container)),
        ("Project", row.project), ("Language", row.language), ("Exit code", "–" if row.exit_code is None else row.exit_code),
        ("Wall time", _amount(row.duration_ms, "ms")), ("CPU time", _amount(row.cpu_time_ms, "ms")),
        ("Peak memory", _amount(row.peak_memory_mb, "MB")), ("Time-out", f"{row.timeout} s"),
        ("Arguments", inert(json.dumps(row.args, ensure_ascii=False))[:2000] if row.args else "–"),
        ("Working directory", inert(row.working_directory) or "/workspace"), ("Attempt", _attempt(row)),
        ("Followed by", _driver(row)), ("Taken over", _takeovers(row)),
        ("Request id", inert(row.request_id) or "–"),
    ]  # fmt: skip


def _steps(row: Execution) -> list[tuple[Any, Any]]:
    return [
        (row.created_at, "Submitted"), (row.started_at, "Started"), (row.cancel_requested_at, "Cancel requested"),
        (row.completed_at, badge(row.status)),
    ]  # fmt: skip


def _amount(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:,.1f} {unit}"


def _status(row: Execution) -> SafeString:
    return format_html('<span class="badge badge-{}" data-field="status">{}</span>', row.status, row.status)


def _attempt(row: Execution) -> SafeString | str:
    if row.attempt == 1:
        return f"1 of {drive.MAX_ATTEMPTS if row.retry_lost else 1}"
    return format_html(
        "{} {} of {}: it was lost and begun anew", badge("retried", "warn"), row.attempt, drive.MAX_ATTEMPTS
    )


def _driver(row: Execution) -> SafeString | str:
    """The process that has its lease, or had it at the end."""
    process = Process.objects.filter(pk=row.driver).first() if row.driver else None
    return link(process)


def _takeovers(row: Execution) -> SafeString | str:
    if not row.takeovers:
        return "never"
    times = "once" if row.takeovers == 1 else f"{row.takeovers} times"
    return format_html(
        "{} {}: the process that followed it had died, another went on", badge("taken over", "warn"), times
    )


def _output(row: Execution, stream: str, label: str) -> SafeString:
    if not row.done:
        box = '<pre class="code" tabindex="0" role="log" aria-label="{}" data-field="{}">{}</pre>'
        return format_html(box, label, stream, WAITING)
    data, omitted = getattr(row, stream), getattr(row, f"{stream}_omitted")
    body = pre(as_text(data), label)
    note = format_html('<p class="cut">{} bytes between the first and the last part were not kept.</p>', omitted)
    return format_html("{}{}", body, note if omitted else "")
