"""The pool is filled up behind a burst of sessions, not in the middle of it."""

from __future__ import annotations

import datetime as dt
import itertools
from contextlib import suppress

import pytest
from django.db import OperationalError
from django.db.models import F

from runtime.drivers.fake import FakeDriver
from runtime.models import Container, Node
from runtime.services import containers, making, nodes, pool
from runtime.services.exclusive import only_one
from sandbox_platform import processes
from sessions_app.models import Session
from templates_app.models import Template
from tests.factories import ContainerFactory, NodeFactory, SessionFactory, TemplateImageFactory
from tests.outage import outage


@pytest.fixture
def node(db: None) -> Node:
    return NodeFactory()


@pytest.fixture
def template(node: Node) -> Template:
    template = TemplateImageFactory().template
    template.warm_pool_size = 5
    template.save()
    return template


@pytest.fixture
def engine(node: Node, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setattr(nodes.registry, "load", lambda kind, **options: fake)
    monkeypatch.setattr(nodes, "_drivers", {})
    return fake


@pytest.fixture
def burst(node: Node, template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that came just now, and a warm container for the next one. Just now lasts, however slow the test is."""
    monkeypatch.setattr(pool, "QUIET", 60.0)
    SessionFactory.create_batch(3, node=node, template=template)
    ContainerFactory(node=node, template=template, status="warm")


def made(engine: FakeDriver) -> int:
    return sum(verb == "create" for verb, _ in engine.calls)


def test_one_waits_for_the_end_of_a_burst(
    engine: FakeDriver, node: Node, template: Template, burst: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def the_burst_ends(seconds: float) -> None:
        assert made(engine) == 0
        Session.objects.update(created_at=F("created_at") - dt.timedelta(seconds=500))

    monkeypatch.setattr(pool.time, "sleep", the_burst_ends)
    assert pool.refill(node, template)
    assert made(engine) == 1


def test_others_leave_it_to_that_one(engine: FakeDriver, node: Node, template: Template, burst: None) -> None:
    with only_one(f"refill.{node.pk}.{template.pk}"):
        assert not pool.refill(node, template)
    assert made(engine) == 0


def test_a_burst_without_end_is_not_waited_for(
    engine: FakeDriver, node: Node, template: Template, burst: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LONGEST_WAIT", 0.0)
    assert pool.refill(node, template)


def test_an_empty_pool_is_filled_at_once(
    engine: FakeDriver, node: Node, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "QUIET", 60.0)
    SessionFactory.create_batch(3, node=node, template=template)
    with only_one(f"refill.{node.pk}.{template.pk}"):
        assert pool.refill(node, template)


def test_a_database_that_breaks_off_at_any_step_leaves_nothing_that_counts_as_stock(
    transactional_db: None, engine: FakeDriver, node: Node, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "PAUSE", 0)
    processes.own_id()
    half_made = 0
    for step in itertools.count():
        with outage(step, monkeypatch) as broken, suppress(OperationalError):
            pool.refill(node, template)
        half_made += Container.objects.filter(status="stopping").count()
        pool.balance(node)
        assert not Container.objects.exclude(status__in=("warm", "removed")).exists(), step
        warm = Container.objects.filter(status="warm")
        assert {sandbox.name for sandbox in engine.list()} == set(warm.values_list("name", flat=True)), step
        for container in warm:
            containers.remove(container)
        if not broken.began:
            break
    assert half_made > 2 and step < 40


def test_a_fault_of_ours_leaves_nothing_that_counts_as_stock(
    engine: FakeDriver, node: Node, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(containers, "make", broken)
    with pytest.raises(TypeError):
        pool.refill(node, template)
    assert Container.objects.get().status == "stopping"
    pool.balance(node)
    assert Container.objects.get().status == "removed"


@pytest.mark.parametrize(
    ("name", "value"),
    [("oci_runtime", "runsc"), ("preload", ["json"]), ("figures", True)],
    ids=lambda value: str(value),
)
def test_a_sandbox_that_was_started_otherwise_is_neither_given_away_nor_kept(
    engine: FakeDriver, node: Node, template: Template, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(containers, "answers", lambda container: True)
    template.warm_pool_size = 2
    template.save()

    def claim() -> Container | None:
        return pool.claim(node, template, "/nowhere", template.default_resources)

    assert pool.refill(node, template) and pool.refill(node, template) and not pool.refill(node, template)
    assert claim() is not None
    stale = Container.objects.get(status="warm")

    Template.objects.update(**{name: value})
    template.refresh_from_db()
    assert claim() is None
    assert pool.refill(node, template)
    assert getattr(engine.specs[Container.objects.exclude(pk=stale.pk).get(status="warm").name], name) in (
        value,
        ("json",),
    )
    pool.balance(node)
    stale.refresh_from_db()
    assert stale.status == "removed"
    fresh = claim()
    assert fresh is not None and fresh.pk != stale.pk
