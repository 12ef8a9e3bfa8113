"""What no app of ours owns: the history of all that was done here, and django-q2's pages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django_q import admin as queue_admin  # noqa: F401  (registers its models, of which two go again)
from django_q.models import Schedule, Success

from sandbox_platform.admin_show import badge, inert, moment

# We schedule nothing by django-q2 and keep no successes: empty pages would only raise questions.
for unused in (Schedule, Success):
    admin.site.unregister(unused)


@admin.register(LogEntry)
class HistoryAdmin(admin.ModelAdmin):
    """Who did what, and when. Nobody changes it."""

    list_display = ["when", "user", "content_type", "what", "words"]
    list_filter = ["action_flag", "user", "content_type"]
    list_select_related = ["user", "content_type"]
    list_display_links = None
    show_full_result_count = False
    list_per_page = 50
    ordering = ["-id"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """It is written by what is done."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    @admin.display(description="When")
    def when(self, entry: LogEntry) -> SafeString | str:
        """How long ago."""
        return moment(entry.action_time)

    @admin.display(description="What")
    def what(self, entry: LogEntry) -> str:
        """The row, as it was called then."""
        return inert(entry.object_repr)

    @admin.display(description="Done")
    def words(self, entry: LogEntry) -> SafeString | str:
        """As it was written."""
        return inert(entry.get_change_message()) or badge("added" if entry.is_addition() else "changed")
