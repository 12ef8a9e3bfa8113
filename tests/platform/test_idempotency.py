"""Idempotency-Key: once, whatever happens in between."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.db import connection, connections

from sandbox_platform import idempotency
from sandbox_platform.models import IdempotencyRecord
from sessions_app.models import Session
from sessions_app.services import lifecycle
from tests.api.client import Api, error_of
from tests.factories import NodeFactory, SessionFactory, TemplateFactory, TemplateImageFactory

BODY = {"template_id": "python-basic"}
KEY = {"Idempotency-Key": "k1"}


@pytest.fixture
def api(db: None) -> Api:
    NodeFactory()
    TemplateImageFactory()
    return Api()


def test_without_a_key_each_request_counts(api: Api) -> None:
    for _ in range(2):
        api.post("/sessions", BODY)
    assert Session.objects.count() == 2
    assert not IdempotencyRecord.objects.exists()


def test_the_order_of_fields_and_white_space_do_not_matter(api: Api) -> None:
    first = api.post("/sessions", raw=b'{"template_id":"python-basic","timeout":300}', headers=KEY)
    again = api.post("/sessions", raw=b' { "timeout": 300, "template_id": "python-basic" } ', headers=KEY)
    assert again.content == first.content
    assert Session.objects.count() == 1


def test_a_key_is_of_one_project_and_path(api: Api) -> None:
    one = api.post("/sessions", BODY, headers=KEY).json()["session_id"]
    two = Api().post("/sessions", BODY, headers=KEY).json()["session_id"]
    assert one != two
    a, b = (SessionFactory(project=api.project, status="running").pk for _ in range(2))
    run = {"code": "1", "language": "python"}
    ids = {api.post(f"/sessions/{pk}/execute", run, headers=KEY).json()["execution_id"] for pk in (a, b, a)}
    assert len(ids) == 2


def test_another_key_of_the_project_gets_the_same_answer(api: Api) -> None:
    first = api.post("/sessions", BODY, headers=KEY)
    assert Api(api.project).post("/sessions", BODY, headers=KEY).content == first.content


def test_refusals_are_kept(api: Api) -> None:
    first = api.post("/sessions", {"template_id": "later"}, headers=KEY)
    error_of(first, 404, "TemplateNotFound")
    TemplateFactory(id="later")
    again = api.post("/sessions", {"template_id": "later"}, headers=KEY)
    assert error_of(again, 404, "TemplateNotFound") == {**first.json(), "request_id": again.headers["X-Request-ID"]}
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("error", [RuntimeError, "503"])
def test_failures_of_ours_are_not_kept(api: Api, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    from sandbox_platform.errors import ApiError
    from sessions_app.services import lifecycle

    def fail(*args: Any) -> Any:
        raise ApiError("RuntimeUnavailable", "x") if error == "503" else error()

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "create", fail)
        assert api.post("/sessions", BODY, headers=KEY).status_code in (500, 503)
    assert not IdempotencyRecord.objects.exists()
    assert api.post("/sessions", BODY, headers=KEY).status_code == 201


def test_values_that_json_parsers_differ_on_are_given_again_as_they_were(api: Api) -> None:
    answer = api.post("/sessions", {**BODY, "labels": {"a": "é\u2028\U0001f600\\u0000"}}, headers=KEY)
    assert (
        api.post("/sessions", {**BODY, "labels": {"a": "é\u2028\U0001f600\\u0000"}}, headers=KEY).content
        == answer.content
    )


def test_answers_are_forgotten_after_a_day(api: Api) -> None:
    first = api.post("/sessions", BODY, headers=KEY).json()["session_id"]
    IdempotencyRecord.objects.update(created_at=dt.datetime.now(dt.UTC) - dt.timedelta(hours=23))
    idempotency.forget_old()
    assert api.post("/sessions", BODY, headers=KEY).json()["session_id"] == first
    IdempotencyRecord.objects.update(created_at=dt.datetime.now(dt.UTC) - dt.timedelta(hours=24, minutes=1))
    idempotency.forget_old()
    assert api.post("/sessions", BODY, headers=KEY).json()["session_id"] != first


def test_twins_make_one(transactional_db: None) -> None:
    NodeFactory()
    TemplateImageFactory()
    api = Api()
    start = threading.Barrier(4)
    answers: list[Any] = []

    def post() -> None:
        try:
            start.wait()
            answers.append(Api.post(api, "/sessions", BODY, headers=KEY))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Session.objects.count() == 1
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 3


def test_a_twin_that_takes_too_long_is_a_conflict(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    NodeFactory()
    TemplateImageFactory()
    api = Api()
    held, go_on = threading.Event(), threading.Event()
    real = lifecycle.create

    def create(*args: Any, **kwargs: Any) -> Any:
        held.set()
        assert go_on.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(lifecycle, "create", create)
    first: list[Any] = []

    def post() -> None:
        try:
            first.append(Api.post(api, "/sessions", BODY, headers=KEY))
        finally:
            connections.close_all()

    thread = threading.Thread(target=post)
    thread.start()
    assert held.wait(60)
    patience = {"sqlite": "PRAGMA busy_timeout = 100", "postgresql": "SET lock_timeout = '100ms'"}
    try:
        with connection.cursor() as cursor:
            cursor.execute(patience[connection.vendor])
        answer = api.post("/sessions", BODY, headers=KEY)
        error_of(answer, 409, "Conflict")
        assert int(answer.headers["Retry-After"]) >= 1
        if connection.vendor == "sqlite":  # where all writers wait for one lock
            error_of(api.post("/sessions", BODY, headers={"Idempotency-Key": "another"}), 503, "ServiceUnavailable")
    finally:
        go_on.set()
        thread.join(60)
        connection.close()
    assert first[0].status_code == 201
    assert api.post("/sessions", BODY, headers=KEY).content == first[0].content
