"""What the admin pages of all apps share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from sandbox_platform.admin_actions import ActingAdmin
from sandbox_platform.admin_lists import KeysetChangeList
from sandbox_platform.admin_show import inert, link, pre

__all__ = ["Card", "ConsoleAdmin", "WatchedAdmin", "link", "pre"]


@dataclass(frozen=True)
class Card:
    """A box on a row's page. `body` is safe HTML."""

    title: str
    body: SafeString | str
    wide: bool = False


class ConsoleAdmin(ActingAdmin, admin.ModelAdmin):
    """Any model of the console: acts with confirmation, an empty list that says what to do."""

    empty_hint = ""
    change_form_template = "admin/console_change_form.html"
    change_list_template = "admin/console_change_list.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With the hint for an empty list."""
        own = {"empty_hint": self.empty_hint, "title": str(self.opts.verbose_name_plural).capitalize()}
        return super().changelist_view(request, {**own, **(extra_context or {})})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """With the buttons of the acts."""
        row = kwargs.get("obj")
        editable = self.has_change_permission(request, row) if row else self.has_add_permission(request)
        context.update(buttons=self.buttons(request, row), editable=editable)
        if row is not None:
            title = f"{str(self.opts.verbose_name).capitalize()} {inert(str(row))}"
            context.update(cards=self.cards(request, row), live_url=self.live_url(row), title=title, subtitle=None)
        return super().render_change_form(request, context, *args, **kwargs)

    def cards(self, request: HttpRequest, row: Any) -> list[Card]:
        """What the page of a row shows above (or instead of) its fields."""
        return []

    def live_url(self, row: Any) -> str:
        """Where the page asks for what moves, or nothing. See live.js."""
        return ""


class WatchedAdmin(ConsoleAdmin):
    """Rows that the service writes: operators look, and act through acts that call the services of the API."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    sortable_by = ()
    # Which lookup a search term is for, by how it begins: each is a prefix that an index finds.
    search_prefixes: Mapping[str, str] = {}
    # What pages are keyed by, besides the primary key. Indexed where the table is large.
    keyset_column = "created_at"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type:
        """Pages by key, never by number."""
        return KeysetChangeList

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        """One indexed lookup, chosen by the beginning of the term; what does not fit any finds nothing."""
        term = search_term.strip().replace("\0", "")
        if not term:
            return queryset, False
        known = [prefix for prefix in self.search_prefixes if term.startswith(prefix)]
        if not known:
            return queryset.none(), False
        return queryset.filter(**{self.search_prefixes[max(known, key=len)]: term}), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They go when their time is over."""
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """None: cards show it all."""
        return []

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only for the actions of the list: the page of one row shows and does not save."""
        return super().has_change_permission(request, obj) if obj is None else False
