"""The pool is filled up behind a burst of sessions, not in the middle of it."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db.models import F

from runtime.drivers.fake import FakeDriver
from runtime.models import Node
from runtime.services import nodes, pool
from runtime.services.exclusive import only_one
from sessions_app.models import Session
from templates_app.models import Template
from tests.factories import ContainerFactory, NodeFactory, SessionFactory, TemplateImageFactory


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
