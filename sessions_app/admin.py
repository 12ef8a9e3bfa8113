"""Sessions: inspection, extension and termination by operators."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sandbox_platform.admin_base import WatchedAdmin, link, pre
from sessions_app.models import Reason, Session
from sessions_app.services import lifecycle


@admin.register(Session)
class SessionAdmin(WatchedAdmin):
    """Values of env_vars are never shown."""

    list_display = [
        "id",
        "status",
        "status_reason",
        "project",
        "template",
        "container_link",
        "active_runs",
        "created_at",
        "expires_at",
    ]
    list_filter = ["status", "status_reason", "project", "template", "runtime_type"]
    list_select_related = ["project", "template", "container"]
    search_fields = ["id__startswith", "container__ref__startswith"]
    actions = ["terminate"]
    fields = [
        "id", "status", "status_reason", "status_detail", "project", "template", "runtime_type", "container_link", "runs",
        ("cpu", "memory", "disk"), ("timeout", "max_concurrency", "active_runs"), "labels_shown", "env_names", "created_at",
        "started_at", "expires_at", "last_activity_at", "ended_at", "files_saved_at", "released_at",
    ]  # fmt: skip

    @admin.display(description="Container")
    def container_link(self, session: Session) -> SafeString | str:
        """To its page."""
        return link(session.container)

    @admin.display(description="Executions")
    def runs(self, session: Session) -> SafeString:
        """To their list."""
        page = reverse("admin:executions_app_execution_changelist")
        return format_html('<a href="{}?session__id__exact={}">Executions of this session</a>', page, session.pk)

    @admin.display(description="Labels")
    def labels_shown(self, session: Session) -> SafeString:
        """Formatted."""
        return pre(json.dumps(session.labels, indent=1, sort_keys=True, ensure_ascii=False))

    @admin.action(description="Terminate the selected sessions", permissions=["change"])
    def terminate(self, request: HttpRequest, queryset: QuerySet) -> None:
        """As the API does it, but by the operator."""
        who = f"Terminated by the operator {request.user.get_username()}"
        ended = [session.pk for session in queryset if lifecycle.end(session.pk, Reason.TERMINATED_BY_OPERATOR, who)]
        for session in queryset.filter(pk__in=ended):
            self.log_change(request, session, "Terminated")
        self.message_user(request, f"{len(ended)} terminated.")
