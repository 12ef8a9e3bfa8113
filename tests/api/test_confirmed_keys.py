"""A key that a process has read a moment ago: what it saves, and that nobody is let in by it."""

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError
from django.utils import timezone

from executions_app.models import Execution
from sandbox_platform.auth import BearerAuthentication
from sandbox_platform.models import ApiKey
from tests.api.client import Api, error_of
from tests.factories import SessionFactory

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]
RUN = {"code": "def handler(event): return 1", "language": "python"}
WAIT = {"Prefer": "wait=5"}


@pytest.fixture
def known(api: Api) -> Api:
    """A client whose key this process remembers."""
    error_of(api.post("/sessions/none/execute", RUN), 404, "SessionNotFound")
    assert api.key.prefix in BearerAuthentication._seen
    return api


@pytest.fixture
def session(known: Api) -> str:
    return SessionFactory(project=known.project, running=True).pk


@pytest.fixture
def questions(known: Api, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A key's prefix for each time that one is asked for by itself."""
    asked: list[str] = []
    live = BearerAuthentication.live

    def counted(self: BearerAuthentication, prefix: str, token: str) -> ApiKey | None:
        asked.append(prefix)
        return live(self, prefix, token)

    monkeypatch.setattr(BearerAuthentication, "live", counted)
    return asked


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("{session}", RUN, WAIT),
        ("{session}", RUN, {}),
        ("{session}", RUN, {**WAIT, "Idempotency-Key": "k"}),
        ("{session}", RUN, {"Idempotency-Key": "k"}),
        ("{session}", {**RUN, "timeout": -1}, WAIT),
        ("{session}", {**RUN, "language": "javascript"}, WAIT),
        ("{session}", RUN, {"Prefer": "wait=never"}),
        ("none", RUN, WAIT),
        ("sess_\0", RUN, WAIT),
    ],
)
@pytest.mark.parametrize("how", ["revoked", "expired", "deactivated", "another secret", "gone"])
def test_one_that_is_live_no_more_is_refused_with_the_next_request(
    known: Api, session: str, how: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    now, key = timezone.now(), ApiKey.objects.filter(pk=known.key.pk)
    if how == "deactivated":
        key.update(owner=get_user_model().objects.create_user("someone", is_active=False))
    elif how == "gone":
        key.delete()
    else:
        gone = {"revoked": {"revoked_at": now}, "expired": {"expires_at": now}, "another secret": {"digest": "0" * 64}}
        key.update(**gone[how])
    answer = known.post(f"/sessions/{path.format(session=session)}/execute", body, headers=headers)
    error_of(answer, 401, "Unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert not Execution.objects.exists()


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "HEAD", "PATCH"])
def test_whatever_else_is_asked_there_is_refused_too(known: Api, session: str, method: str) -> None:
    ApiKey.objects.update(revoked_at=timezone.now())
    assert known.call(method, f"/sessions/{session}/execute").status_code == 401


def test_a_database_that_is_away_is_asked_once(
    known: Api, session: str, questions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr("executions_app.services.statements.start", away)
    error_of(known.post(f"/sessions/{session}/execute", RUN, headers=WAIT), 503, "ServiceUnavailable")
    assert not questions


def test_a_wrong_secret_is_refused(known: Api, session: str) -> None:
    answer = known.post(
        f"/sessions/{session}/execute", RUN, headers={**WAIT, "Authorization": f"Bearer {known.token[:-43]}{'A' * 43}"}
    )
    error_of(answer, 401, "Unauthorized")


def test_a_start_asks_for_it_on_its_way(known: Api, session: str, questions: list[str]) -> None:
    known.post(f"/sessions/{session}/execute", RUN, headers=WAIT)
    assert Execution.objects.count() == 1
    assert not questions


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
def test_what_is_not_begun_at_once_asks_for_it_once(
    known: Api, session: str, headers: dict[str, str], questions: list[str]
) -> None:
    assert known.post(f"/sessions/{session}/execute", RUN, headers=headers).status_code == 200
    assert len(questions) == 1


def test_elsewhere_it_is_asked_for_each_time(known: Api, questions: list[str]) -> None:
    known.get("/sessions")
    known.get("/sessions")
    assert len(questions) == 2


def test_it_is_forgotten_soon_and_its_use_is_noted(known: Api, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    until, key = BearerAuthentication._seen[known.key.prefix]
    monkeypatch.setitem(BearerAuthentication._seen, known.key.prefix, (until - 31, key))
    ApiKey.objects.update(last_used_at=timezone.now() - dt.timedelta(minutes=2))
    known.post(f"/sessions/{session}/execute", RUN, headers=WAIT)
    last = ApiKey.objects.get(pk=known.key.pk).last_used_at
    assert last and timezone.now() - last < dt.timedelta(minutes=1)
