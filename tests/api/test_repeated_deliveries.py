"""The same order, delivered ten times at once: one sandbox, one end, nothing left."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connections

from runtime.drivers.fake import FakeDriver
from runtime.models import Container
from runtime.services import nodes
from sessions_app import tasks
from sessions_app.models import Session
from tests.api.client import Api
from tests.factories import NodeFactory, TemplateImageFactory

COPIES = 10


@pytest.fixture
def engine(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    NodeFactory()
    TemplateImageFactory()
    fake = FakeDriver()
    monkeypatch.setattr(nodes.registry, "load", lambda kind, **options: fake)
    monkeypatch.setattr(nodes, "_drivers", {})
    return fake


def delivered(task: Callable[[str], None], session_id: str) -> None:
    start, failures = threading.Barrier(COPIES), []

    def work() -> None:
        start.wait()
        try:
            task(session_id)
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(COPIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_session_gets_one_sandbox_and_gives_it_back_once(engine: FakeDriver) -> None:
    api = Api()
    session_id = api.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    delivered(tasks.provision, session_id)
    assert api.get(f"/sessions/{session_id}").json()["status"] == "running"
    assert Container.objects.count() == len(engine.list()) == 1

    Session.objects.update(purge=True)  # nothing to be saved: there is no executor behind this socket
    assert api.delete(f"/sessions/{session_id}").status_code == 200
    delivered(tasks.release, session_id)
    session = Session.objects.get()
    assert (session.status, session.status_reason) == ("terminated", "terminated_by_client")
    assert session.released_at and session.container.status == "removed"
    assert engine.list() == []
    first = session.released_at
    tasks.release(session_id)
    assert Session.objects.get().released_at == first


def test_a_start_after_the_end_makes_nothing(engine: FakeDriver) -> None:
    api = Api()
    session_id = api.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    api.delete(f"/sessions/{session_id}")
    delivered(tasks.provision, session_id)
    assert engine.list() == [] and not any(verb == "create" for verb, _ in engine.calls)
