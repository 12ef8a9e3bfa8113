"""What the admin pages of all apps share."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


class WatchedAdmin(admin.ModelAdmin):
    """Rows that the service writes: operators look, and act through actions that call the services of the API."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They go when their time is over."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """All that is shown."""
        return [name for _, options in self.get_fieldsets(request, obj) for name in _flat(options["fields"])]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only for the actions on the list: the page of one row shows and does not save."""
        return super().has_change_permission(request, obj) if obj is None else False


def _flat(fields: Any) -> list[str]:
    return [name for item in fields for name in (item if isinstance(item, list | tuple) else (item,))]


def link(row: Model | None, text: str = "") -> SafeString | str:
    """A link to a row's admin page."""
    if row is None:
        return "-"
    page = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', page, text or str(row))


def pre(text: str) -> SafeString:
    """Text of a tenant: escaped, as it stands, in a box that scrolls."""
    style = "max-height:30em;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;margin:0"
    return format_html('<pre style="{}">{}</pre>', style, text)
