"""What a start that goes wrong tells, and that it never stays in `creating`."""

import datetime as dt

import pytest
from django.utils import timezone

from runtime.services import containers
from sessions_app.models import Session
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
