"""What no app of ours owns: the history of all that was done here, and django-q2's pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django_q import admin as queue_admin  # noqa: F401  (registers its models, of which three go again)
from django_q.models import Failure, Schedule, Success

from sandbox_platform import queue
from sandbox_platform.admin_actions import Act
from sandbox_platform.admin_base import Card, WatchedAdmin, pre
from sandbox_platform.admin_show import badge, inert, moment, table

# We schedule nothing by django-q2 and keep no successes: empty pages would only raise questions. Its page of failures lets
# everybody who may look put tasks back into the queue: ours does not.
for unwanted in (Schedule, Success, Failure):
    admin.site.unregister(unwanted)


def resubmit(request: HttpRequest, failure: Failure, values: Mapping[str, Any]) -> bool | str:
    """Once; then to the list, as the row is gone."""
    return queue.again(failure) and reverse("admin:django_q_failure_changelist")


@admin.register(Failure)
class FailureAdmin(WatchedAdmin):
    """Tasks that raised. Whoever may change them may have them tried again."""

    list_display = ["__str__", "what", "cluster", "ended", "why"]
    list_filter = ["cluster"]
    keyset_column = "started"
    empty_hint = "Tasks that raised an error appear here."
    acts = (
        Act("resubmit", "Try again", "Put back into the queue",
            "The task goes back into its queue and from this list. Tasks are safe to repeat.", resubmit, danger=False),
    )  # fmt: skip

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By Django's permission: nothing else removes them. No role has it."""
        return request.user.has_perm("django_q.delete_failure")

    def cards(self, request: HttpRequest, row: Failure) -> list[Card]:
        """What was asked, and what it raised."""
        facts = [
            ("Task", inert(str(row.args))), ("Queue", row.cluster or "–"), ("Begun", moment(row.started)),
            ("Ended", moment(row.stopped)), ("Attempts", row.attempt_count),
        ]  # fmt: skip
        return [Card("Task", table(facts)), Card("What it raised", pre(str(row.result or ""), "Error"), wide=True)]

    @admin.display(description="Task")
    def what(self, failure: Failure) -> str:
        """The function and its arguments."""
        return inert(str(failure.args))[:200]

    @admin.display(description="Ended")
    def ended(self, failure: Failure) -> SafeString | str:
        """How long ago."""
        return moment(failure.stopped)

    @admin.display(description="Error")
    def why(self, failure: Failure) -> str:
        """Its beginning."""
        return inert(str(failure.result or ""))[:100]


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
