"""The dashboard: right numbers, each a link, and as many queries with rows as without."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from console.figures import EDGES, Histogram
from runtime.models import Node
from sandbox_platform.queue import Queue, enqueue
from tests.factories import ContainerFactory, ExecutionFactory, NodeFactory, SessionFactory


def rows() -> None:
    now = timezone.now()
    session = SessionFactory(running=True, started_at=now)
    for status, code, ms in (
        ("completed", None, 12),
        ("completed", None, 15),
        ("failed", "Sandbox.ExecException", 30),
        ("timeout", "Sandbox.ExecTimeout", 1000),
    ):
        error = {"error_code": code} if code else None
        ExecutionFactory(session=session, status=status, error=error, duration_ms=ms, completed_at=now, created_at=now)
    ExecutionFactory(session=session, created_at=now - dt.timedelta(seconds=90))
    ContainerFactory(status="warm")


def test_its_numbers_are_those_of_the_rows(admin):
    rows()
    tiles = {tile.label: tile for tile in admin.get("/admin/").context["tiles"]}
    assert (tiles["Sessions running"].value, tiles["Runs, 24 h"].value, tiles["Runs failed, 24 h"].value) == (
        "1",
        "4",
        "2",
    )
    assert (tiles["Runs waiting"].value, tiles["Runs waiting"].note) == ("1", "oldest 2 min")
    charts = {chart["id"]: chart for chart in admin.get("/admin/").context["charts"]}
    assert sum(charts["runs"]["datasets"][0]["data"]) == 2
    assert dict(zip(charts["faults"]["labels"], charts["faults"]["datasets"][0]["data"], strict=True)) == {
        "ExecException": 1,
        "ExecTimeout": 1,
    }


def test_a_node_shows_what_is_promised_of_each_resource(admin):
    node = NodeFactory()
    Node.objects.update(disk_overcommit=2.0)
    ContainerFactory.create_batch(2, node=node, disk="50Gi")
    (entry,) = admin.get("/admin/").context["nodes"]
    assert entry["cores"] == "2 of 16 cores promised (2 there)"
    assert (entry["memory_words"], entry["memory_share"]) == ("1.0 of 24 GiB of memory promised", 4)
    assert (entry["disk_words"], entry["disk_share"]) == ("100.0 of 400 GiB of disk promised (200 there)", 25)
    Node.objects.update(disk_overcommit=10.0)
    (entry,) = admin.get("/admin/").context["nodes"]
    assert entry["disk_words"] == "100.0 of 2000 GiB of disk promised (200 there)"


def test_every_number_leads_to_its_rows(admin):
    rows()
    context = admin.get("/admin/").context
    urls = {tile.url for tile in context["tiles"]} | {url for chart in context["charts"] for url in chart["urls"]}
    urls |= {node[key] for node in context["nodes"] for key in ("url", "containers_url")}
    for url in urls:
        assert admin.get(url).status_code == 200, url


def test_the_rows_behind_a_number_are_those_that_it_counts(admin):
    """Also a run that began before the day and ended in it, and those that were out of time."""
    rows()
    now, session = timezone.now(), SessionFactory()
    for status, began, ended in (
        ("failed", 30, 1), ("timeout", 30, 1), ("completed", 30, 1), ("failed", 60, 40), ("completed", 60, 40),
    ):  # fmt: skip
        ExecutionFactory(
            session=session, status=status, error={"error_code": "Sandbox.ExecTimeout"} if status != "completed" else None,
            created_at=now - dt.timedelta(hours=began), completed_at=now - dt.timedelta(hours=ended),
        )  # fmt: skip
    context = admin.get("/admin/").context
    counted = {
        tile.url: int(tile.value) for tile in context["tiles"] if tile.label in ("Runs, 24 h", "Runs failed, 24 h")
    }
    assert sorted(counted.values()) == [4, 7]
    (faults,) = [chart for chart in context["charts"] if chart["id"] == "faults"]
    counted |= dict(zip(faults["urls"], faults["datasets"][0]["data"], strict=True))
    for url, count in counted.items():
        assert admin.get(url).context["cl"].result_count == count, url


@pytest.mark.parametrize("times", [1, 3])
def test_more_rows_take_no_more_queries(admin, times):
    admin.get("/admin/")
    with CaptureQueriesContext(
        connection,
    ) as before:
        admin.get("/admin/")
    for _ in range(times):
        rows()
    with CaptureQueriesContext(connection) as after:
        admin.get("/admin/")
    assert len(after) == len(before)


def test_percentiles_are_interpolated_between_the_edges():
    histogram = Histogram()
    assert histogram.percentile(0.5) is None
    histogram.add(100, [0 if edge < 20 else 50 if edge < 50 else 100 for edge in EDGES])
    assert (histogram.percentile(0.5), histogram.percentile(0.75), histogram.percentile(1.0)) == (20, 35, 50)


def test_the_queue_says_how_many_wait_and_since_when(admin):
    for _ in range(2):
        enqueue(Queue.BUILDS, "templates_app.tasks.tick")
    tiles = {tile.label: tile for tile in admin.get("/admin/").context["tiles"]}
    assert tiles["Tasks queued"].value == "2"
    assert "builds 2" in tiles["Tasks queued"].note
    assert tiles["Oldest task"].value != "–"
