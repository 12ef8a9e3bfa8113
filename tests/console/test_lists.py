"""Lists of rows that may be a million: pages by key, no COUNT, a fixed number of queries."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from django.contrib.admin import site
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from executions_app.models import Execution
from sandbox_platform.admin_base import WatchedAdmin
from tests.factories import ContainerFactory, ExecutionFactory, SessionFactory

LISTS = ["/admin/executions_app/execution/", "/admin/sessions_app/session/", "/admin/runtime/container/"]


def fill(count: int) -> list[str]:
    """Executions with a session and a container each; the ids, newest first. Some share their moment."""
    now, found = timezone.now(), []
    for number in range(count):
        when = now - dt.timedelta(seconds=number // 3)
        session = SessionFactory(container=ContainerFactory(created_at=when), created_at=when, status="running")
        found.append((when, ExecutionFactory(session=session, project=session.project, created_at=when).pk))
    return [pk for _, pk in sorted(found, reverse=True)]


def shown(answer) -> list[str]:
    return [row.pk for row in answer.context["cl"].result_list]


def test_the_pages_of_a_list_show_every_row_once_forwards_and_back(admin, monkeypatch):
    from executions_app.admin import ExecutionAdmin

    monkeypatch.setattr(ExecutionAdmin, "list_per_page", 4)
    wanted, url, seen, pages = fill(11), LISTS[0], [], []
    query = ""
    while True:
        answer = admin.get(url + query)
        pages.append(shown(answer))
        seen += pages[-1]
        if not answer.context["cl"].older_url:
            break
        query = answer.context["cl"].older_url
    assert seen == wanted
    assert shown(admin.get(url + answer.context["cl"].newer_url)) == pages[-2]


def test_a_row_that_the_databases_clock_dated_is_shown_once(admin, monkeypatch):
    """SQLite's has milliseconds only."""
    from executions_app.admin import ExecutionAdmin

    monkeypatch.setattr(ExecutionAdmin, "list_per_page", 1)
    session = SessionFactory(status="running")
    older = ExecutionFactory(
        session=session, project=session.project, created_at=timezone.now() - dt.timedelta(hours=1)
    )
    newer = ExecutionFactory(session=session, project=session.project)
    Execution.objects.filter(pk=newer.pk).update(created_at=Now())
    first = admin.get(LISTS[0])
    second = admin.get(LISTS[0] + first.context["cl"].older_url)
    assert (shown(first), shown(second)) == ([newer.pk], [older.pk])
    assert not second.context["cl"].older_url


@pytest.mark.parametrize("url", LISTS)
def test_a_list_takes_the_same_queries_whatever_its_length_and_never_counts(admin, url):
    fill(1)
    admin.get(url)
    with CaptureQueriesContext(connection) as few:
        admin.get(url)
    fill(9)
    with CaptureQueriesContext(connection) as many:
        assert admin.get(url).status_code == 200
    assert len(many) == len(few)
    assert not [query for query in many if re.search(r"COUNT\(|OFFSET", query["sql"])]


@pytest.mark.parametrize(
    "query",
    [
        "older=nonsense",
        "older=2026-01-01,x",
        "newer=,",
        "older=0001-01-01T00:00:00%2B23:00,x",
        "newer=9999-12-31T23:59:59-23:00,x",
        "since=1y",
        "status__exact=nonsense",
        "older=2026-01-01T00:00:00%2B00:00,%00",
    ],
)
def test_a_query_that_makes_no_sense_is_harmless(admin, query):
    assert admin.get(f"{LISTS[0]}?{query}", follow=True).status_code == 200


NOW = "2026-01-01T00:00:00%2B00:00"


@pytest.mark.parametrize("model", [model for model, pages in site._registry.items() if isinstance(pages, WatchedAdmin)])
@pytest.mark.parametrize("pk", ["abc", "9" * 30, "9" * 5000, "-1", "1.5", "%00", "1%00", "٣", "", "x,y"])
def test_a_cursor_that_points_nowhere_is_harmless_whatever_its_rows_are_keyed_by(admin, model, pk):
    page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for side in ("older", "newer"):
        assert admin.get(f"{page}?{side}={NOW},{pk}", follow=True).status_code == 200


@pytest.mark.parametrize(("url", "term"), [
    (LISTS[0], "exec_"), (LISTS[0], "sess_"), (LISTS[1], "sess_"),
    (LISTS[1], ""), (LISTS[2], "sbx-"), (LISTS[2], "sess_"), (LISTS[2], "\x00"),
])  # fmt: skip
def test_a_search_term_is_the_beginning_of_an_id(admin, url, term):
    fill(2)
    assert len(shown(admin.get(url, {"q": term}))) == 2


def test_an_empty_list_says_what_to_do(admin):
    assert "POST /api/v1/sessions" in admin.get(LISTS[1]).content.decode()
