"""Tokens: who is let in, and what is kept of them."""

import datetime as dt

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from sandbox_platform.models import ApiKey
from tests.api.client import Api, error_of
from tests.factories import ProjectFactory

pytestmark = pytest.mark.django_db


def test_a_token_is_kept_as_a_digest_alone() -> None:
    key, token = ApiKey.issue(ProjectFactory(), "name")
    stored = " ".join(str(value) for value in ApiKey.objects.values_list().get())
    assert token not in stored and token.rsplit("_", 1)[1] not in stored
    assert token.startswith(f"sbx_{key.prefix}_")
    assert token not in repr(key) and token not in str(key)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_may_be_in_any_case(scheme: str) -> None:
    api = Api()
    assert api.get("/sessions", Authorization=f"{scheme} {api.token}").status_code == 200


def test_a_revoked_one_is_refused_with_the_next_request() -> None:
    api = Api()
    assert api.get("/sessions").status_code == 200
    ApiKey.objects.update(revoked_at=timezone.now())
    error_of(api.get("/sessions"), 401, "Unauthorized")


def test_an_expired_one_is_refused() -> None:
    now = timezone.now()
    assert Api(expires_at=now + dt.timedelta(minutes=1)).get("/sessions").status_code == 200
    error_of(Api(expires_at=now - dt.timedelta(seconds=1)).get("/sessions"), 401, "Unauthorized")


def test_one_of_a_deactivated_user_is_refused() -> None:
    user = get_user_model().objects.create_user("someone")
    api = Api(owner=user)
    assert api.get("/sessions").status_code == 200
    user.is_active = False
    user.save()
    error_of(api.get("/sessions"), 401, "Unauthorized")


def test_every_refusal_reads_the_same() -> None:
    api = Api()
    known_prefix = api.token[:-43] + "A" * 43
    answers = [
        api.get("/sessions", **{"Authorization": f"Bearer {token}", "X-Request-ID": "same"})
        for token in (known_prefix, "sbx_aaaaaaaaaaaa_" + "A" * 43, "nonsense", "")
    ]
    assert len({answer.content for answer in answers}) == 1


def test_a_token_in_the_query_is_ignored() -> None:
    api = Api()
    for name in ("token", "access_token", "api_key", "Authorization"):
        answer = api.client.get(f"/api/v1/sessions?{name}={api.token}")
        error_of(answer, 401, "Unauthorized")


def test_authentication_is_one_query(django_assert_num_queries) -> None:
    api = Api()
    api.get("/sessions/none")
    with django_assert_num_queries(2):  # the key, the session
        error_of(api.get("/sessions/none"), 404, "SessionNotFound")


def test_the_last_use_is_written_once_a_minute() -> None:
    api = Api()
    api.get("/sessions")
    first = ApiKey.objects.get().last_used_at
    assert first
    api.get("/sessions")
    assert ApiKey.objects.get().last_used_at == first
    ApiKey.objects.update(last_used_at=first - dt.timedelta(minutes=2))
    api.get("/sessions")
    assert ApiKey.objects.get().last_used_at > first - dt.timedelta(minutes=1)


def test_neither_the_token_nor_a_body_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    api = Api()
    api.post("/sessions", {"template_id": "nope", "env_vars": {"KEY": "hunter2"}})
    api.get("/sessions", Authorization="Bearer sbx_wrong_wrong")
    assert api.token not in caplog.text and "hunter2" not in caplog.text and "sbx_wrong" not in caplog.text
