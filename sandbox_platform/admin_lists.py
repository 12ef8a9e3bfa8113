"""Lists of a million rows: no COUNT, no OFFSET. A page begins where the one before it ended, found by the index on `created_at`."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

OLDER, NEWER = "older", "newer"


class KeysetChangeList(ChangeList):
    """Newest first. `?older=<created_at>,<pk>` is the page after that row, `?newer=` the one before it."""

    keyset = True

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        get = request.GET.copy()
        self.older, self.newer = get.pop(OLDER, [""])[-1], get.pop(NEWER, [""])[-1]
        request.GET = get  # type: ignore[assignment]  # what is left are filters
        super().__init__(request, *args, **kwargs)

    @property
    def column(self) -> str:
        """Of the moment by which rows are in order."""
        return self.model_admin.keyset_column  # type: ignore[attr-defined]

    def get_ordering(self, request: HttpRequest, queryset: QuerySet) -> list[Any]:
        """The only one that the cursors know."""
        return [f"-{self.column}", "-pk"]

    def get_results(self, request: HttpRequest) -> None:
        """One query: the page, and one row more to know whether there is another page."""
        most = self.list_per_page
        if self.newer:
            # Backwards from the cursor, so in ascending order, and turned round.
            found = list(
                self.queryset.filter(_beyond(self.model, self.column, self.newer, "gt")).order_by(self.column, "pk")[
                    : most + 1
                ]
            )
            more_newer, more_older = len(found) > most, True
            found = found[:most][::-1]
        else:
            rows = (
                self.queryset.filter(_beyond(self.model, self.column, self.older, "lt"))
                if self.older
                else self.queryset
            )
            found = list(rows[: most + 1])
            more_newer, more_older = bool(self.older), len(found) > most
            found = found[:most]
        self.result_list = found
        self.older_url = self.get_query_string({OLDER: _cursor(self.column, found[-1])}) if found and more_older else ""
        self.newer_url = self.get_query_string({NEWER: _cursor(self.column, found[0])}) if found and more_newer else ""
        self.first_url = self.get_query_string() if self.older or self.newer else ""
        self.result_count = len(found)
        self.full_result_count = self.result_count  # unknown, and not asked for
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = bool(found)
        self.paginator = self.model_admin.get_paginator(request, self.queryset, most)


def _cursor(column: str, row: Model) -> str:
    return f"{getattr(row, column).isoformat()},{row.pk}"


def _beyond(model: type[Model], column: str, cursor: str, side: str) -> Q:
    """Rows beyond the cursor. The first condition is the one that an index can begin at; the last is for SQLite's own clock.

    What that wrote has milliseconds, and lies before the same moment in the microseconds of a cursor: its row would come again.
    """
    text, _, pk = cursor.partition(",")
    try:
        when = dt.datetime.fromisoformat(text)
        if timezone.is_naive(when):
            raise IncorrectLookupParameters
        when = when.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise IncorrectLookupParameters(error) from error
    try:
        key = model._meta.pk.to_python(pk)
    except ValidationError as error:
        raise IncorrectLookupParameters(error) from error
    if not pk or "\0" in pk:
        raise IncorrectLookupParameters
    return (
        Q(**{f"{column}__{side}e": when}) & (Q(**{f"{column}__{side}": when}) | Q(**{f"pk__{side}": key})) & ~Q(pk=key)
    )


class SinceFilter(SimpleListFilter):
    """How far back."""

    title = "time"
    parameter_name = "since"
    WINDOWS = {"1h": dt.timedelta(hours=1), "24h": dt.timedelta(days=1), "7d": dt.timedelta(days=7)}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """By age."""
        return [("1h", "Past hour"), ("24h", "Past 24 hours"), ("7d", "Past 7 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """By creation."""
        window = self.WINDOWS.get(self.value() or "")
        return queryset.filter(created_at__gte=timezone.now() - window) if window else queryset
