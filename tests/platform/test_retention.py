"""Rows whose time is over go, some at a time; what is still named or still lives stays."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from runtime import tasks
from runtime.models import Container
from sandbox_platform import retention
from sandbox_platform.models import Process
from tests.factories import ContainerFactory, SessionFactory

pytestmark = pytest.mark.django_db


def ago(**when: float) -> dt.datetime:
    return timezone.now() - dt.timedelta(**when)


def test_dead_processes_are_forgotten_after_a_day() -> None:
    def process(dead_at: dt.datetime | None) -> Process:
        return Process.objects.create(kind="worker:runs", host="h", pid=1, started_at=ago(days=9), dead_at=dead_at)

    kept = {process(None).pk, process(ago(hours=23)).pk}
    process(ago(hours=25))
    tasks.purge()
    assert set(Process.objects.values_list("pk", flat=True)) == kept


def test_removed_containers_are_forgotten_once_no_session_has_them() -> None:
    old, new = ago(days=8), ago(days=6)
    kept = {
        ContainerFactory(status="removed", created_at=old, ended_at=new).pk,
        ContainerFactory(status="warm", created_at=old).pk,
        ContainerFactory(status="lost", created_at=old, ended_at=old).pk,
        SessionFactory(container=ContainerFactory(status="removed", created_at=old, ended_at=old)).container.pk,
    }
    ContainerFactory(status="removed", created_at=old, ended_at=old)
    ContainerFactory(status="removed", created_at=old)  # its start failed
    tasks.purge()
    assert set(Container.objects.values_list("pk", flat=True)) == kept


def test_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "MOST_BATCHES", 2)
    ContainerFactory.create_batch(5, status="removed", ended_at=ago(days=8))
    rows = Container.objects.filter(status="removed")
    assert retention.delete_in_batches(rows) == 4
    assert retention.delete_in_batches(rows) == 1
    assert not rows.exists()
