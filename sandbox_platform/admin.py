"""Projects, API keys and the processes of this installation."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from sandbox_platform.admin_base import WatchedAdmin
from sandbox_platform.models import SCOPES, ApiKey, Process, Project


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):
    """Tenants."""

    list_display = ["name", "created_at"]
    search_fields = ["name"]


class ApiKeyForm(forms.ModelForm):
    """Scopes to tick rather than JSON to write."""

    scopes = forms.MultipleChoiceField(
        choices=list(SCOPES.items()), required=False, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = ApiKey
        fields = ("project", "name", "scopes", "owner", "expires_at")


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    """Tokens: shown once, when they are made."""

    form = ApiKeyForm
    list_display = ["name", "project", "prefix", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_filter = ["project", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["project"]
    search_fields = ["name", "prefix", "project__name"]
    readonly_fields = ["prefix", "created_at", "revoked_at", "last_used_at"]
    actions = ["revoke"]

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """A new key gets its token here, and nowhere again."""
        if not change:
            self.message_user(request, f"The token, shown this once: {obj.new_token()}", messages.WARNING)
        super().save_model(request, obj, form, change)

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet) -> None:
        """At once, for good."""
        revoked = queryset.filter(revoked_at=None).update(revoked_at=timezone.now())
        self.message_user(request, f"{revoked} revoked. Requests with them are refused from now on.")


@admin.register(Process)
class ProcessAdmin(WatchedAdmin):
    """Web and worker processes, by their heartbeats."""

    list_display = ["kind", "host", "pid", "beats", "started_at", "dead_at"]
    list_filter = [("dead_at", admin.EmptyFieldListFilter), "kind"]
    keyset_column = "started_at"
    empty_hint = "They appear here once the service runs: manage.py up."
