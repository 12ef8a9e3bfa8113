"""GET /containers, /containers/{id}, its logs and stats."""

import datetime as dt
import re

import pytest

from runtime.models import Container
from sessions_app.models import Session
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdQuestions, OwnListQuestions
from tests.factories import ContainerFactory, SessionFactory


class TestList(OwnListQuestions):
    path = "/containers"
    methods = {"GET"}
    plural = "containers"

    def make(self, caller: Api, ids: dict[str, str]) -> str:
        return SessionFactory(project=caller.project, running=True).container.ref[:12]


class TestOne(IdQuestions):
    path = "/containers/{container}"
    methods = {"GET"}
    not_found = "ContainerNotFound"


class TestLogs(IdQuestions):
    path = "/containers/{container}/logs"
    methods = {"GET"}
    not_found = "ContainerNotFound"


class TestStats(IdQuestions):
    path = "/containers/{container}/stats"
    methods = {"GET"}
    not_found = "ContainerNotFound"


def of(api: Api, **fields: object) -> Container:
    return SessionFactory(project=api.project, status="running", container=ContainerFactory(**fields)).container


def listed(api: Api, query: str = "") -> list[str]:
    answer = api.get(f"/containers{query}")
    assert answer.status_code == 200, answer.content
    return [item["container_id"] for item in answer.json()["containers"]]


def test_an_item_is_as_the_quickstart_says(api: Api) -> None:
    container = of(api, started_at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=300))
    body = api.get("/containers?status=running&limit=10").json()
    assert body["total"] == 1
    (item,) = body["containers"]
    assert re.fullmatch(r"[0-9a-f]{12}", item["container_id"])
    assert item["runtime_type"] == "bubblewrap"
    assert item["status"] == "running"
    assert item["session_id"] == container.session.pk
    assert item["template_id"] == "python-basic"
    assert item["resources"] == {"cpu": "1", "memory": "512Mi", "disk": "1Gi"}
    assert item["created_at"].endswith("Z")
    assert 300 <= item["uptime_seconds"] <= 302
    assert {**item, "uptime_seconds": 0} == {
        **api.get(f"/containers/{item['container_id']}").json(),
        "uptime_seconds": 0,
    }


def test_uptime_ends_with_the_container(api: Api) -> None:
    now = dt.datetime.now(dt.UTC)
    gone = of(api, status="removed", started_at=now - dt.timedelta(hours=2), ended_at=now - dt.timedelta(hours=1))
    assert api.get(f"/containers/{gone.ref}").json()["uptime_seconds"] == 3600
    assert api.get(f"/containers/{of(api).ref}").json()["uptime_seconds"] == 0


def test_by_the_short_or_the_full_id(api: Api) -> None:
    container = of(api)
    short = api.get(f"/containers/{container.ref[:12]}")
    assert short.status_code == 200
    assert short.content == api.get(f"/containers/{container.ref}").content
    error_of(api.get(f"/containers/{container.ref[:11]}"), 404, "ContainerNotFound")
    error_of(api.get(f"/containers/{container.name}"), 404, "ContainerNotFound")
    error_of(api.get(f"/containers/{container.ref[:12].upper()}%25"), 404, "ContainerNotFound")


def test_filters(api: Api) -> None:
    a, b = of(api), of(api, status="removed")
    c = of(api, runtime_type="docker")
    short = {row.pk: row.ref[:12] for row in (a, b, c)}
    assert set(listed(api, "?status=running")) == {short[a.pk], short[c.pk]}
    assert listed(api, "?status=removed") == [short[b.pk]]
    assert listed(api, "?runtime_type=docker") == [short[c.pk]]
    assert listed(api, "?runtime_type=kubernetes") == []
    assert listed(api, f"?session_id={a.session.pk}") == [short[a.pk]]
    assert listed(api, "?session_id=sess_nobody") == []
    assert api.get("/containers?status=running&limit=1").json()["total"] == 2


@pytest.mark.parametrize(
    "query", ["status=up", "status=", "runtime_type=podman", "session_id=", "session_id=%00", "status=warm&status=lost"]
)
def test_a_bad_filter_is_400(api: Api, query: str) -> None:
    error_of(api.get(f"/containers?{query}"), 400, "InvalidParameter")


def test_the_idle_pool_and_other_projects_are_seen_by_those_who_may(api: Api, stranger: Api) -> None:
    mine, theirs, warm = of(api), of(stranger), ContainerFactory(status="warm")
    assert listed(api) == [mine.ref[:12]]
    for container in (theirs, warm):
        error_of(api.get(f"/containers/{container.ref}"), 404, "ContainerNotFound")
    operator = Api(scopes=["containers:read_all"])
    assert set(listed(operator)) == {row.ref[:12] for row in (mine, theirs, warm)}
    body = operator.get(f"/containers/{warm.ref}").json()
    assert (body["status"], body["session_id"]) == ("warm", None)


def test_one_that_is_not_made_yet_has_no_id(api: Api) -> None:
    of(api, ref=None, status="creating")
    assert listed(api) == [None]


@pytest.mark.parametrize(
    "query",
    ["tail=0", "tail=10001", "tail=-1", "tail=x", "tail=", "since=yesterday", "since=", "since=2026-13-01T00:00:00Z", "since=%00",
     "since=0001-01-01T00:00:00%2B23:00", "since=9999-12-31T23:59:59-23:00",
     "follow=1",
     "tail=1&tail=2"],
)  # fmt: skip
def test_bad_parameters_of_logs_are_400(api: Api, query: str) -> None:
    error_of(api.get(f"/containers/{of(api).ref}/logs?{query}"), 400, "InvalidParameter")


KEPT = "2026-01-06T10:00:00.000Z one\n2026-01-06T10:00:01.000Z two\n  of two\n2026-01-06T10:00:02.000Z three\n"


@pytest.mark.parametrize(
    ("query", "lines"),
    [("", KEPT), ("?tail=1", "2026-01-06T10:00:02.000Z three\n"), ("?since=2026-01-06T10:00:02Z", "2026-01-06T10:00:02.000Z three\n"),
     ("?since=2026-01-06T12:00:01%2B02:00", KEPT.split("\n", 1)[1]), ("?since=2026-01-06T12:00:01+02:00", KEPT.split("\n", 1)[1]),
     ("?since=2026-01-06T10:00:01", KEPT.split("\n", 1)[1]), ("?since=2027-01-01T00:00:00Z", "")],
)  # fmt: skip
def test_what_was_kept_of_the_log_is_shown_after_the_end(api: Api, query: str, lines: str) -> None:
    container = of(api, status="removed", log_tail=KEPT)
    answer = api.get(f"/containers/{container.ref}/logs{query}")
    assert (answer.status_code, answer.content.decode()) == (200, lines)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_logs_are_text_whatever_is_accepted(api: Api) -> None:
    container = of(api, status="removed", log_tail=KEPT)
    for accept in ("text/plain", "*/*", "text/html", "application/json"):
        assert api.get(f"/containers/{container.ref}/logs", Accept=accept).status_code == 200
    error_of(api.get("/containers/000000000000/logs", Accept="text/plain"), 404, "ContainerNotFound")


def test_stats_of_one_that_is_gone_are_409(api: Api) -> None:
    error_of(api.get(f"/containers/{of(api, status='removed').ref}/stats"), 409, "Conflict")


@pytest.mark.bubblewrap
def test_a_real_one(live: Api) -> None:
    session_id = live.session()
    (item,) = live.get("/containers?status=running").json()["containers"]
    assert item["session_id"] == session_id
    assert item["isolation"] and item["limits_enforced"]
    logs = live.get(f"/containers/{item['container_id']}/logs?tail=100")
    assert logs.headers["Content-Type"].startswith("text/plain")
    lines = logs.content.decode().splitlines()
    assert lines and all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[INFO\] \w+ ", line) for line in lines), (
        lines
    )
    assert len(live.get(f"/containers/{item['container_id']}/logs?tail=1").content.decode().splitlines()) == 1
    assert live.get(f"/containers/{item['container_id']}/logs?since=2099-01-01T00:00:00Z").content == b""
    live.run(session_id, "print('of the user')")
    assert b"of the user" not in live.get(f"/containers/{item['container_id']}/logs").content
    stats = live.get(f"/containers/{item['container_id']}/stats").json()
    assert set(stats) == {"cpu_seconds", "memory_bytes", "memory_peak_bytes", "pids", "oom_kills"}
    assert stats["cpu_seconds"] > 0 and stats["memory_bytes"] > 0 and stats["pids"] >= 1 and stats["oom_kills"] == 0
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    assert live.get(f"/containers/{item['container_id']}").json()["status"] == "removed"
    assert live.get(f"/containers/{item['container_id']}/logs").content.decode().splitlines()[: len(lines)] == lines
    error_of(live.get(f"/containers/{item['container_id']}/stats"), 409, "Conflict")
