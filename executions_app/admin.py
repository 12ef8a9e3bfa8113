"""Executions: inspection and cancellation by operators."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from executions_app.models import Execution
from executions_app.serializers import as_text
from executions_app.services import submit
from sandbox_platform.admin_base import WatchedAdmin, link, pre


@admin.register(Execution)
class ExecutionAdmin(WatchedAdmin):
    """What a tenant's code said is shown escaped, as it stands."""

    list_display = ["id", "status", "language", "session_link", "project", "exit_code", "duration_ms", "created_at"]
    list_filter = ["status", "language", "project"]
    list_select_related = ["session", "project"]
    search_fields = ["id__startswith", "session__id__startswith"]
    actions = ["cancel"]
    fields = [
        "id", "status", "session_link", "project", "language", "code_shown", "event_shown", "args", "working_directory", "timeout",
        ("exit_code", "duration_ms", "cpu_time_ms", "peak_memory_mb"), "stdout_shown", "stderr_shown", "return_shown", "error_shown",
        "artifacts", "request_id", "attempt", "created_at", "started_at", "completed_at",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Lists do without the large columns."""
        return super().get_queryset(request).defer("code", "event", "stdout", "stderr", "return_value", "stdin")

    @admin.display(description="Session")
    def session_link(self, execution: Execution) -> SafeString | str:
        """To its page."""
        return link(execution.session)

    @admin.display(description="Code")
    def code_shown(self, execution: Execution) -> SafeString:
        """Escaped."""
        return pre(execution.code)

    @admin.display(description="Event")
    def event_shown(self, execution: Execution) -> SafeString:
        """The first 64 KiB."""
        return pre(execution.event[:65536])

    @admin.display(description="Standard output")
    def stdout_shown(self, execution: Execution) -> SafeString:
        """The first 64 KiB."""
        return pre(as_text(execution.stdout)[:65536])

    @admin.display(description="Standard error")
    def stderr_shown(self, execution: Execution) -> SafeString:
        """The first 64 KiB."""
        return pre(as_text(execution.stderr)[:65536])

    @admin.display(description="Return value")
    def return_shown(self, execution: Execution) -> SafeString:
        """The first 64 KiB."""
        return pre((execution.return_value or "")[:65536])

    @admin.display(description="Error")
    def error_shown(self, execution: Execution) -> SafeString:
        """Formatted."""
        return pre(
            json.dumps(execution.error, indent=1, ensure_ascii=False).replace("\\n", "\n") if execution.error else ""
        )

    @admin.action(description="Cancel the selected executions", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: QuerySet) -> None:
        """As the API does it."""
        for execution in queryset:
            submit.cancel(execution)
            self.log_change(request, execution, "Cancelled")
        self.message_user(request, f"{len(queryset)} cancelled.")
