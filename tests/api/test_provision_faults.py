"""What a start that goes wrong tells, and that it never stays in `creating`."""

import datetime as dt
import itertools
from contextlib import suppress

import pytest
from django.db import OperationalError
from django.utils import timezone

from runtime.drivers.fake import FakeDriver
from runtime.models import Container
from runtime.services import containers, making, nodes
from sandbox_platform import processes
from sessions_app.models import Session
from sessions_app.services import forks, lifecycle
from sessions_app.services.lifecycle import release
from sessions_app.services.provision import START_DEADLINE, provision
from tests.api.client import Api
from tests.factories import SessionFactory
from tests.outage import outage


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """Where all sandboxes of the node are."""
    fake = FakeDriver()
    monkeypatch.setattr(nodes.registry, "load", lambda kind, **options: fake)
    monkeypatch.setattr(nodes, "_drivers", {})
    return fake


@pytest.mark.parametrize("age", [0, START_DEADLINE + 1])
def test_a_fault_of_ours_is_tried_again_until_the_deadline(
    api: Api, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(containers, "make", broken)
    session_id = api.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    Session.objects.update(created_at=timezone.now() - dt.timedelta(seconds=age))

    provision(session_id)

    body = api.get(f"/sessions/{session_id}").json()
    expected = ("failed", "start_failed") if age else ("creating", None)
    assert (body["status"], body["status_reason"]) == expected
    assert "bug" not in body["status_detail"]


def test_an_executor_that_never_gets_ready_is_told_with_the_end_of_its_log(api: Api, engine: FakeDriver) -> None:
    engine.knobs.boot_fails = True
    session_id = api.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    provision(session_id)
    body = api.get(f"/sessions/{session_id}").json()
    assert (body["status"], body["status_reason"]) == ("failed", "start_failed")
    assert "executor" in body["status_detail"]
    container = Session.objects.get().container
    assert container.log_tail and len(container.log_tail) <= 4096
    assert engine.list() == []
    release(session_id)
    container.refresh_from_db()
    assert container.status == "removed" and container.log_tail


def test_a_database_that_breaks_off_at_any_step_leaves_no_session_behind(
    transactional_db: None, api: Api, engine: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "PAUSE", 0)
    monkeypatch.setattr(forks, "fill", lambda session: Session.objects.get(pk=session.workspace_from_id))
    source = SessionFactory(project=api.project, running=True)
    processes.own_id()
    stayed = 0
    for step in itertools.count():
        create = {"template_id": "python-basic", "workspace_from": source.pk}
        ended, tried = (api.post("/sessions", create).json()["session_id"] for _ in range(2))
        for pk in (ended, tried):
            with outage(step, monkeypatch) as broken, suppress(OperationalError):
                provision(pk)
            session = Session.objects.get(pk=pk)
            if session.status == "creating":
                assert session.container is None or session.container.maker is None, step
                stayed += 1
                if pk == ended:
                    api.delete(f"/sessions/{pk}?purge=true")
                    release(pk)
                    session.refresh_from_db()
                    assert session.released_at, step
                    assert not Container.objects.filter(session=pk).exclude(status="removed").exists(), step
        if not broken.began:
            break
        provision(tried)
        assert Session.objects.get(pk=tried).status == "running", step
        Session.objects.filter(pk__in=(ended, tried)).update(released_at=timezone.now())
    assert stayed > 10 and step < 60


@pytest.mark.parametrize(("module", "name"), [(forks, "fill"), (lifecycle, "start")])
def test_a_fault_of_ours_after_the_sandbox_is_up_is_tried_again_too(
    api: Api, engine: FakeDriver, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug")

    source = SessionFactory(project=api.project, running=True)
    create = {"template_id": "python-basic", "workspace_from": source.pk}
    session_id = api.post("/sessions", create).json()["session_id"]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, broken)
        provision(session_id)
    assert Session.objects.get(pk=session_id).status == "creating"
    assert Container.objects.get(session=session_id).maker is None

    monkeypatch.setattr(forks, "fill", lambda session: None)
    provision(session_id)
    assert Session.objects.get(pk=session_id).status == "running"
