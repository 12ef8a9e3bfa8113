"""GET /executions/{id}/events."""

import json
from typing import Any

import pytest

from executions_app.services.events import Position
from tests.api.client import Api
from tests.api.questions import IdQuestions
from tests.factories import ExecutionFactory


class TestCommon(IdQuestions):
    path = "/executions/{execution}/events"
    methods = {"GET"}
    not_found = "ExecutionNotFound"


def events(answer: Any) -> list[tuple[int, str, Any]]:
    """Id, kind and data of each event of the stream."""
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    found = []
    for frame in answer.getvalue().decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    ids = [number for number, _, _ in found]
    assert ids == sorted(set(ids)), "ids grow"
    return found


def test_of_one_that_is_done(api: Api) -> None:
    execution = ExecutionFactory(
        session__project=api.project, status="completed", stdout="é1".encode(), stderr=b"2", return_value="0"
    )
    found = events(api.get(f"/executions/{execution.pk}/events"))
    assert [kind for _, kind, _ in found] == ["status", "stdout", "stderr", "status", "result"]
    assert [data["status"] for _, kind, data in found if kind == "status"] == ["running", "completed"]
    stands = {**api.get(f"/executions/{execution.pk}/status").json(), "attempt": 1}
    assert [data for _, kind, data in found if kind == "status"] == [{**stands, "status": "running"}, stands]
    assert found[1][2] == {"text": "é1", "offset": 0}
    assert found[-1][2] == api.get(f"/executions/{execution.pk}/result").json()


def test_it_resumes_behind_any_event(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project, status="failed", stdout=b"1", stderr=b"2")
    whole = events(api.get(f"/executions/{execution.pk}/events"))
    for place, (number, _, _) in enumerate(whole):
        rest = events(api.get(f"/executions/{execution.pk}/events", **{"Last-Event-ID": str(number)}))
        assert rest == whole[place + 1 :]


def test_who_followed_an_attempt_that_was_lost_gets_all_of_the_next(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project, status="running", stdout=b"")
    before = Position(stdout=100, stderr=50, stage=1)
    execution.status, execution.attempt, execution.stdout = "completed", 2, b"short"
    execution.save()
    whole = events(api.get(f"/executions/{execution.pk}/events"))
    assert events(api.get(f"/executions/{execution.pk}/events", **{"Last-Event-ID": str(before.id())})) == whole
    assert [data["attempt"] for _, kind, data in whole if kind == "status"] == [2, 2]
    assert whole[1][2] == {"text": "short", "offset": 0}
    assert whole[0][0] > Position(stdout=10**13, stderr=10**13, stage=3).id(), "ids grow across attempts"
    for place, (number, _, _) in enumerate(whole):
        rest = events(api.get(f"/executions/{execution.pk}/events", **{"Last-Event-ID": str(number)}))
        assert rest == whole[place + 1 :]


@pytest.mark.parametrize("last", ["x", "-1", "9" * 41, "", "1.5", "²"])
def test_an_odd_id_begins_anew(api: Api, last: str) -> None:
    execution = ExecutionFactory(session__project=api.project, status="failed", stdout=b"1")
    whole = events(api.get(f"/executions/{execution.pk}/events"))
    assert events(api.get(f"/executions/{execution.pk}/events", **{"Last-Event-ID": last})) == whole


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "application/json"])
def test_it_is_a_stream_whatever_is_accepted(api: Api, accept: str) -> None:
    execution = ExecutionFactory(session__project=api.project, status="failed")
    assert events(api.get(f"/executions/{execution.pk}/events", Accept=accept))


@pytest.mark.bubblewrap
def test_a_live_run_is_told_as_it_happens(live: Api) -> None:
    session_id = live.session()
    code = "import os, time\nprint('é one', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('two')"
    submitted = live.post(f"/sessions/{session_id}/execute", {"code": code, "language": "python"}).json()
    answer = live.get(f"/executions/{submitted['execution_id']}/events")
    seen = ""
    for frame in answer.streaming_content:
        seen += frame.decode()
        if "é one" in seen:
            live.upload(session_id, "go", b"")
    assert '"text":"two' in seen and "event: result" in seen
    assert seen.rindex('"status":"completed"') > seen.index('"text":"two')
