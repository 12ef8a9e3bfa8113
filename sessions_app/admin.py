"""Sessions: inspection, extension and termination by operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sandbox_platform.admin_actions import Act
from sandbox_platform.admin_base import Card, WatchedAdmin
from sandbox_platform.admin_lists import SinceFilter
from sandbox_platform.admin_show import as_json, badge, grid, inert, link, moment, pre, table, timeline
from sessions_app.models import Reason, Session, SessionStatus, StorageDebt
from sessions_app.services import lifecycle

RECENT = 10


class ExtendForm(forms.Form):
    """How much longer."""

    seconds = forms.IntegerField(
        min_value=60, max_value=3600, initial=900, label="Seconds from now", help_text="60 to 3600."
    )


def terminate(request: HttpRequest, session: Session, values: Mapping[str, Any]) -> bool:
    """As the API does it, but by the operator."""
    who = f"Terminated by the operator {request.user.get_username()}"
    return lifecycle.end(session.pk, Reason.TERMINATED_BY_OPERATOR, who)


def extend(request: HttpRequest, session: Session, values: Mapping[str, Any]) -> bool:
    """As the API does it."""
    return lifecycle.extend(session, values["seconds"])


@admin.register(Session)
class SessionAdmin(WatchedAdmin):
    """Values of env_vars are never shown."""

    list_display = [
        "id",
        "state",
        "why",
        "project",
        "template",
        "container_link",
        "runs",
        "created",
        "expires",
    ]
    list_filter = ["status", SinceFilter, "status_reason", "project", "template"]
    list_select_related = ["project", "template", "container"]
    search_fields = ["id"]
    search_help_text = "A session's or a container's id, or its beginning"
    search_prefixes = {"sess_": "pk__startswith", "": "container__ref__startswith", "sbx-": "container__pk__startswith"}
    empty_hint = "They appear here once somebody creates one: POST /api/v1/sessions. Or try a template from its page."
    acts = (
        Act(
            "extend", "Extend", "Extended", "The session ends so many seconds from now, whatever its time-out was before.",
            extend, possible=lambda session: not session.ended and not session.closing, danger=False, form=ExtendForm,
        ),
        Act(
            "terminate", "Terminate", "Terminated",
            "Running code is stopped, its output so far and the workspace's files are kept, and the sandbox is removed.",
            terminate, possible=lambda session: not session.ended,
        ),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Lists do without the large columns."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match and match.kwargs.get("object_id"):
            return rows.select_related("container__node", "project", "template").defer("env_sealed")
        return rows.defer(
            "env_sealed", "labels", "env_names", "status_detail", "container__log_tail", "container__isolation"
        )

    @admin.display(description="Status")
    def state(self, session: Session) -> SafeString:
        """In colour."""
        return badge(session.status)

    @admin.display(description="Why")
    def why(self, session: Session) -> str:
        """Its reason, where there is one."""
        return session.get_status_reason_display() or "–"

    @admin.display(description="Runs")
    def runs(self, session: Session) -> int:
        """Those that run now."""
        return session.active_runs

    @admin.display(description="Container")
    def container_link(self, session: Session) -> SafeString | str:
        """To its page."""
        return link(session.container)

    @admin.display(description="Created")
    def created(self, session: Session) -> SafeString | str:
        """How long ago."""
        return moment(session.created_at)

    @admin.display(description="Expires")
    def expires(self, session: Session) -> SafeString | str:
        """When it runs."""
        return moment(session.expires_at) if session.status == SessionStatus.RUNNING else "–"

    def cards(self, request: HttpRequest, row: Session) -> list[Card]:
        """Facts, what happened, its latest runs."""
        enforced = row.container.limits_enforced if row.container else {}
        limits = [(name, format_html("{} <span class='quiet'>{}</span>", value, enforced.get(name.lower(), "")))
                  for name, value in (("CPU", row.cpu), ("Memory", row.memory), ("Disk", row.disk))]  # fmt: skip
        return [
            Card("Session", table(_facts(row))),
            Card("Timeline", timeline(_steps(row))),
            Card("Latest executions", self._runs(request, row), wide=True),
            Card("Limits, and how they are enforced", table([*limits, ("Overlapping runs", row.max_concurrency)])),
            Card("Labels", as_json(row.labels, "Labels") if row.labels else "None"),
        ]

    def _runs(self, request: HttpRequest, row: Session) -> SafeString:
        if not request.user.has_perm("executions_app.view_execution"):
            return format_html('<p class="quiet">{}</p>', "Not for your role.")
        runs = row.executions.order_by("-created_at").only(
            "id", "status", "language", "duration_ms", "created_at", "session_id"
        )[:RECENT]  # type: ignore[attr-defined]
        rows = [
            (
                link(run),
                badge(run.status),
                run.language,
                "–" if run.duration_ms is None else f"{run.duration_ms:,.1f} ms",
                moment(run.created_at),
            )
            for run in runs
        ]
        heads = ["Execution", "Status", "Language", "Took", "Created"]
        page = reverse("admin:executions_app_execution_changelist")
        more = format_html('<p><a href="{}?session__id__exact={}">All executions of this session</a></p>', page, row.pk)
        return format_html("{}{}", grid(heads, rows, "Nothing was run in it yet."), more if rows else "")


def _facts(row: Session) -> list[tuple[str, Any]]:
    return [
        ("Status", badge(row.status)), ("Why", row.status_reason or "–"), ("In words", inert(row.status_detail) or "–"),
        ("Project", row.project), ("Template", link(row.template)), ("Container", link(row.container)),
        ("Runtime", row.runtime_type), ("Network", ", ".join(row.allowed_hosts) or "none"), ("Time-out", f"{row.timeout} s"),
        ("Expires", moment(row.expires_at) if not row.ended else "–"), ("Running now", row.active_runs),
        ("Environment", ", ".join(f"{name}=••••" for name in row.env_names) or "–"),
    ]  # fmt: skip


def _steps(row: Session) -> list[tuple[Any, Any]]:
    return [
        (row.created_at, "Created"), (row.started_at, "Its sandbox was ready"), (row.last_activity_at, "Last activity"),
        (row.ended_at, badge(row.status)), (row.files_saved_at, "Files saved"), (row.released_at, "Everything given back"),
    ]  # fmt: skip


@admin.register(StorageDebt)
class StorageDebtAdmin(WatchedAdmin):
    """What the storage still has to take, and what was lost, for operators to see; the service pays by itself."""

    list_display = ["session_link", "kind", "state", "owed", "attempts", "next_try", "reason"]
    list_filter = ["what", ("lost_at", admin.EmptyFieldListFilter)]
    list_select_related = ["session"]
    search_fields = ["session__id"]
    search_help_text = "A session's id, or its beginning"
    search_prefixes = {"sess_": "session__id__startswith"}
    keyset_column = "since"
    empty_hint = "Nothing: the storage has all files that it should have."

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Without what is large of the sessions."""
        return super().get_queryset(request).only(*(field.attname for field in StorageDebt._meta.fields), "session__id")

    @admin.display(description="Session")
    def session_link(self, debt: StorageDebt) -> SafeString | str:
        """To its page."""
        return link(debt.session)

    @admin.display(description="What")
    def kind(self, debt: StorageDebt) -> str:
        """In words."""
        return debt.get_what_display()

    @admin.display(description="State")
    def state(self, debt: StorageDebt) -> SafeString:
        """In colour."""
        if debt.lost_at:
            return badge("lost", "bad")
        return badge("late", "warn") if debt.attempts else badge("owed", "calm")

    @admin.display(description="Owed")
    def owed(self, debt: StorageDebt) -> SafeString | str:
        """Since when."""
        return moment(debt.since)

    @admin.display(description="Next try")
    def next_try(self, debt: StorageDebt) -> SafeString | str:
        """When it is due, where there is one."""
        return "–" if debt.lost_at else moment(debt.next_try_at)

    @admin.display(description="Error")
    def reason(self, debt: StorageDebt) -> str:
        """The beginning of the latest attempt's."""
        return inert(debt.error[:200]) or "–"

    def cards(self, request: HttpRequest, row: StorageDebt) -> list[Card]:
        """Facts, and all of the error."""
        facts = [
            ("Session", link(row.session)), ("What", row.get_what_display()), ("State", self.state(row)), ("Owed", moment(row.since)),
            ("Failed attempts", row.attempts), ("Next try", self.next_try(row)), ("Lost", moment(row.lost_at)),
        ]  # fmt: skip
        return [
            Card("Storage debt", table(facts)),
            Card("The latest attempt", pre(row.error, "Error") if row.error else "–"),
        ]
