"""GET /sessions."""

import datetime as dt

import pytest

from sessions_app.models import Session
from tests.api.client import Api, error_of
from tests.api.questions import OwnListQuestions
from tests.factories import ContainerFactory, SessionFactory, TemplateFactory


class TestCommon(OwnListQuestions):
    path = "/sessions"
    methods = {"GET", "POST"}
    plural = "sessions"

    def make(self, caller: Api, ids: dict[str, str]) -> str:
        return SessionFactory(project=caller.project, container=ContainerFactory(), status="running").pk


def ids_of(answer) -> set[str]:
    assert answer.status_code == 200, answer.content
    return {item["session_id"] for item in answer.json()["sessions"]}


def test_newest_first_ended_ones_included(api: Api) -> None:
    now = dt.datetime.now(dt.UTC)
    made = [
        SessionFactory(project=api.project, status=status, created_at=now + dt.timedelta(seconds=n)).pk
        for n, status in enumerate(["terminated", "creating", "failed"])
    ]
    listed = [item["session_id"] for item in api.get("/sessions").json()["sessions"]]
    assert listed == made[::-1]


def test_an_item_is_the_session_as_get_shows_it(api: Api) -> None:
    session = SessionFactory(project=api.project, running=True)
    assert api.get("/sessions").json()["sessions"] == [api.get(f"/sessions/{session.pk}").json()]


def test_filters_by_status_and_template(api: Api) -> None:
    other = TemplateFactory(id="other")
    a = SessionFactory(project=api.project, status="running").pk
    b = SessionFactory(project=api.project, status="running", template=other).pk
    c = SessionFactory(project=api.project, status="timeout").pk
    assert ids_of(api.get("/sessions?status=running")) == {a, b}
    assert ids_of(api.get("/sessions?status=timeout")) == {c}
    assert ids_of(api.get("/sessions?template_id=other")) == {b}
    assert ids_of(api.get("/sessions?template_id=other&status=timeout")) == set()
    assert ids_of(api.get("/sessions?template_id=nobody-knows-it")) == set()
    assert api.get("/sessions?status=running&limit=1").json()["total"] == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("team", "a"), ("team", ""), ("my__key", "v"), ("1", "one"), ("app.kubernetes.io/name", "x"), ("é ü", "ß:ø"), ('q"uo\'te', "%"),
     ("$", "."), ("[0]", "x"), ("-1", "minus"), ("status", "running"), ("a,b", "c&d"), ("x" * 300, "y" * 500), ("\\", "\\n")],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_filters_by_any_label(api: Api, key: str, value: str) -> None:
    from urllib.parse import quote

    mine = SessionFactory(project=api.project, labels={key: value, "other": "z"}).pk
    SessionFactory(project=api.project, labels={key: value + "x"})
    SessionFactory(project=api.project, labels={"else": value})
    SessionFactory(project=api.project)
    assert ids_of(api.get(f"/sessions?label={quote(key, safe='')}:{quote(value, safe='')}")) == {mine}


def test_all_of_several_labels_must_match(api: Api) -> None:
    SessionFactory(project=api.project, labels={"a": "1"})
    both = SessionFactory(project=api.project, labels={"a": "1", "b": "2"}).pk
    assert ids_of(api.get("/sessions?label=a:1&label=b:2")) == {both}


@pytest.mark.parametrize(
    "query",
    ["status=paused", "status=", "status=RUNNING", "status=running&status=failed", "template_id=", "template_id=%00", "label=", "label=a",
     "label=:a", "label=a:%00", "&".join(["label=a:b"] * 900), "template_id=a&template_id=b", "Status=running"],
    ids=lambda query: query[:30],
)  # fmt: skip
def test_a_bad_filter_is_400(api: Api, query: str) -> None:
    SessionFactory(project=api.project)
    error_of(api.get(f"/sessions?{query}"), 400, "InvalidParameter")
    assert Session.objects.count() == 1
