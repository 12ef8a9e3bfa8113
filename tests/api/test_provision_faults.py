"""What a start that goes wrong tells, and that it never stays in `creating`."""

import datetime as dt

import pytest
from django.utils import timezone

from runtime.drivers.fake import FakeDriver
from runtime.services import containers, nodes
from sessions_app.models import Session
from sessions_app.services.lifecycle import release
from sessions_app.services.provision import START_DEADLINE, provision
from tests.api.client import Api


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


def test_an_executor_that_never_gets_ready_is_told_with_the_end_of_its_log(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeDriver()
    engine.knobs.boot_fails = True
    monkeypatch.setattr(nodes.registry, "load", lambda kind, **options: engine)
    monkeypatch.setattr(nodes, "_drivers", {})
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
