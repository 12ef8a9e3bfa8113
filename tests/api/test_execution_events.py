"""GET /executions/{id}/events."""

import json
import re
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


def parse_stream(text: str) -> list[tuple[str, str, str]]:
    """Last id, type and data of each event that the standard's own algorithm dispatches (HTML, 9.2.6)."""
    found: list[tuple[str, str, str]] = []
    last = kind = ""
    data: list[str] = []
    for line in re.split(r"\r\n|\r|\n", text):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append((last, kind or "message", "\n".join(data)))
            kind, data = "", []
        elif name == "id":
            last = value
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        else:
            assert name in ("", "retry"), f"a line that is no field: {line!r}"
    return found


def events(answer: Any) -> list[tuple[int, str, Any]]:
    """Id, kind and data of each event of the stream."""
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    found = [(int(last), kind, json.loads(data)) for last, kind, data in parse_stream(answer.getvalue().decode())]
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


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r", "\n\n"], ids=ascii)
def test_a_result_that_was_written_on_several_lines_is_one_event(api: Api, end: str) -> None:
    text = f'{{{end}  "id": 1,{end}  "text": "a\\nb: \u2028"{end}}}'
    execution = ExecutionFactory(session__project=api.project, status="completed", return_value=text)
    found = events(api.get(f"/executions/{execution.pk}/events"))
    assert [kind for _, kind, _ in found] == ["status", "status", "result"]
    assert found[-1][2]["return_value"] == {"id": 1, "text": "a\nb: \u2028"}
    assert found[-1][2] == api.get(f"/executions/{execution.pk}/result").json()


def test_it_resumes_behind_any_event(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project, status="failed", stdout=b"1", stderr=b"2")
    whole = events(api.get(f"/executions/{execution.pk}/events"))
    for place, (number, _, _) in enumerate(whole[:-1]):
        rest = events(api.get(f"/executions/{execution.pk}/events", **{"Last-Event-ID": str(number)}))
        assert rest == whole[place + 1 :]


def test_who_has_all_is_told_to_come_no_more(api: Api) -> None:
    """An EventSource reconnects after any other answer, at once and for ever."""
    execution = ExecutionFactory(session__project=api.project, status="completed", stdout=b"1", return_value="0")
    last, _, _ = events(api.get(f"/executions/{execution.pk}/events"))[-1]
    answer = api.get(f"/executions/{execution.pk}/events", **{"Last-Event-ID": str(last)})
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Length" not in answer.headers


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
    for place, (number, _, _) in enumerate(whole[:-1]):
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
