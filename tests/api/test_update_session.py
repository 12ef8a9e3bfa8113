"""PATCH /sessions/{id}."""

import datetime as dt

import pytest

from sessions_app.models import Session
from tests.api.client import Api, error_of
from tests.api.questions import BodyQuestions, IdQuestions
from tests.factories import SessionFactory


class TestCommon(BodyQuestions, IdQuestions):
    method = "PATCH"
    path = "/sessions/{session}"
    methods = {"GET", "PATCH", "DELETE"}
    body = {"timeout": 600}
    not_found = "SessionNotFound"


def running(api: Api, age: int = 0, **fields: object) -> Session:
    now = dt.datetime.now(dt.UTC)
    times = {"started_at": now - dt.timedelta(seconds=age), "expires_at": now + dt.timedelta(seconds=100)}
    return SessionFactory(project=api.project, running=True, **{**times, **fields})


def test_one_that_is_due_can_not_be_extended(api: Api) -> None:
    session = running(api, expires_at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1))
    error_of(api.patch(f"/sessions/{session.pk}", {"timeout": 900}), 404, "SessionNotFound")


def test_a_running_one_gets_so_many_seconds_from_now(api: Api) -> None:
    session = running(api, age=200)
    answer = api.patch(f"/sessions/{session.pk}", {"timeout": 900})
    assert answer.status_code == 200
    assert answer.json()["timeout"] == 900
    expires = dt.datetime.fromisoformat(answer.json()["expires_at"])
    assert abs((expires - dt.datetime.now(dt.UTC)).total_seconds() - 900) < 5
    assert answer.json() == api.get(f"/sessions/{session.pk}").json()


def test_it_may_also_be_shortened(api: Api) -> None:
    session = running(api)
    answer = api.patch(f"/sessions/{session.pk}", {"timeout": 60})
    expires = dt.datetime.fromisoformat(answer.json()["expires_at"])
    assert (expires - dt.datetime.now(dt.UTC)).total_seconds() < 61


def test_one_that_is_being_created_begins_with_it(api: Api) -> None:
    session = SessionFactory(project=api.project)
    body = api.patch(f"/sessions/{session.pk}", {"timeout": 900}).json()
    assert (body["timeout"], body["expires_at"]) == (900, None)


def test_beyond_the_maximum_life_is_400_and_says_how_much_is_left(api: Api) -> None:
    session = running(api, age=6 * 3600 - 600)
    body = error_of(api.patch(f"/sessions/{session.pk}", {"timeout": 3600}), 400, "InvalidParameter")
    assert "the maximum life ends in" in body["error_detail"]
    assert api.patch(f"/sessions/{session.pk}", {"timeout": 500}).status_code == 200


@pytest.mark.parametrize("timeout", [59, 3601, 0, -1, "300", 300.5, 300.0, True, [], {}, None, 10**30])
def test_a_bad_value_is_400(api: Api, timeout: object) -> None:
    session = running(api)
    body = error_of(api.patch(f"/sessions/{session.pk}", {"timeout": timeout}), 400, "InvalidParameter")
    assert "timeout" in body["error_detail"]


def test_nothing_at_all_is_400(api: Api) -> None:
    error_of(api.patch(f"/sessions/{running(api).pk}", {}), 400, "InvalidParameter")


@pytest.mark.parametrize("field", ["status", "template_id", "resources", "env_vars", "expires_at"])
def test_nothing_else_can_be_changed(api: Api, field: str) -> None:
    session = running(api)
    error_of(api.patch(f"/sessions/{session.pk}", {"timeout": 300, field: "x"}), 400, "InvalidParameter")


@pytest.mark.parametrize("status", ["terminated", "failed", "timeout"])
def test_an_ended_one_is_404(api: Api, status: str) -> None:
    session = SessionFactory(project=api.project, status=status)
    error_of(api.patch(f"/sessions/{session.pk}", {"timeout": 300}), 404, "SessionNotFound")


def test_one_that_is_closing_is_404(api: Api) -> None:
    session = running(api, closing="expired")
    error_of(api.patch(f"/sessions/{session.pk}", {"timeout": 300}), 404, "SessionNotFound")
