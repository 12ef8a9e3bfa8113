"""GET /executions/{id}/events while the execution waits and runs: in order, from any place, to the stored end."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.db import connections

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import events as service
from runtime.drivers.executor_client import AsyncExecutorClient, Event, Result
from sandbox_platform import prefer
from tests.api.client import Api

pytestmark = pytest.mark.bubblewrap
KEPT = 512 * 1024
HELD = "import os, sys, time\ndef hold(name):\n    while not os.path.exists(name): time.sleep(0.005)\n"


def submit(api: Api, session_id: str, code: str, **body: Any) -> str:
    answer = api.post(f"/sessions/{session_id}/execute", {"code": code, "language": "python", **body})
    return answer.json()["execution_id"]


def stream(api: Api, execution: str, last: int | None = None) -> Iterator[tuple[int, str, Any]]:
    """Events as they come; comments as (0, "comment", text)."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    answer, buffer = api.get(f"/executions/{execution}/events", **headers), ""
    assert answer.status_code == 200
    try:
        for piece in answer.streaming_content:
            buffer += piece.decode()
            while "\n\n" in buffer:
                frame, _, buffer = buffer.partition("\n\n")
                fields = dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
                if "event" in fields:
                    yield int(fields["id"]), fields["event"], json.loads(fields["data"])
                elif not fields:
                    yield 0, "comment", frame
    finally:
        answer.close()


def text_of(events: list[tuple[int, str, Any]], name: str) -> str:
    return "".join(data["text"] for _, kind, data in events if kind == name)


def go(api: Api, session_id: str, name: str) -> None:
    assert api.upload(session_id, name, b"").status_code == 200


def test_both_streams_come_as_they_are_written_and_ids_grow(live: Api) -> None:
    session_id = live.session()
    code = HELD + (
        "for n in range(6):\n    print(n, file=(sys.stdout, sys.stderr)[n % 2], flush=True)\n    hold(f'go{n}')\n"
        "def handler(event): return 'end'"
    )
    execution, seen = submit(live, session_id, code), []
    for number, kind, data in stream(live, execution):
        if kind == "comment":
            continue
        assert not seen or number > seen[-1][0]
        seen.append((number, kind, data))
        if kind in ("stdout", "stderr") and data["text"].strip():
            # It goes on only once this has arrived: nothing was held back, and the end was not known.
            assert Execution.objects.get(pk=execution).status == ExecutionStatus.RUNNING
            go(live, session_id, f"go{int(data['text'])}")
        if kind == "result":
            assert Execution.objects.get(pk=execution).status == ExecutionStatus.COMPLETED
    assert (text_of(seen, "stdout"), text_of(seen, "stderr")) == ("0\n2\n4\n", "1\n3\n5\n")
    statuses = [data["status"] for _, kind, data in seen if kind == "status"]
    assert statuses in (["pending", "running", "completed"], ["running", "completed"])
    assert seen[-1][1:] == ("result", live.get(f"/executions/{execution}/result").json())
    # From behind any event, afterwards: the rest of both streams, byte for byte, and the end.
    for place, (number, _, _) in enumerate(seen[:-1]):
        rest = list(stream(live, execution, number))
        for name in ("stdout", "stderr"):
            assert text_of(rest, name) == text_of(seen[place + 1 :], name), number
        assert rest[-1][1] == "result"


def test_it_resumes_in_the_middle_of_a_run(live: Api) -> None:
    session_id = live.session()
    code = (
        HELD
        + "for n in range(4):\n    print('out', n, flush=True)\n    print('err', n, file=sys.stderr, flush=True)\n    hold(f'go{n}')"
    )
    execution, seen, last = submit(live, session_id, code), [], None
    for n in range(4):
        for number, kind, data in stream(live, execution, last):  # a connection of its own for each
            if kind != "comment":
                last = number
                seen.append((number, kind, data))
            if text_of(seen, "stdout").endswith(f"out {n}\n") and text_of(seen, "stderr").endswith(f"err {n}\n"):
                break
        go(live, session_id, f"go{n}")
    seen += [event for event in stream(live, execution, last) if event[1] != "comment"]
    assert text_of(seen, "stdout") == "".join(f"out {n}\n" for n in range(4))
    assert text_of(seen, "stderr") == "".join(f"err {n}\n" for n in range(4))
    assert [kind for _, kind, _ in seen].count("result") == 1 and seen[-1][1] == "result"


def test_characters_are_never_cut(live: Api) -> None:
    session_id = live.session()
    code = HELD + (
        "for n, byte in enumerate('aé€😀z'.encode()):\n    os.write(1, bytes([byte]))\n    time.sleep(0.02)\n"
        "os.write(1, b'\\xff\\xe2\\x82')\nos.write(2, '€'.encode() * 100_000)"
    )
    execution = submit(live, session_id, code)
    seen = [event for event in stream(live, execution) if event[1] != "comment"]
    assert text_of(seen, "stdout") == "aé€😀z\ufffd\ufffd"
    assert text_of(seen, "stderr") == "€" * 100_000
    for _, kind, data in seen:
        if kind == "stdout" and "\ufffd" not in data["text"]:
            assert data["text"] in "aé€😀z"
    after = list(stream(live, execution))
    assert text_of(after, "stdout") == text_of(seen, "stdout") and text_of(after, "stderr") == "€" * 100_000


def test_a_flood_shows_its_gaps(live: Api) -> None:
    session_id = live.session()
    execution = submit(live, session_id, "import sys\nfor n in range(300_000): sys.stdout.write(f'{n:09d}\\n')")
    for events in (list(stream(live, execution)), list(stream(live, execution))):  # as it runs, and afterwards
        end = 0
        for _, kind, data in events:
            if kind == "stdout":
                assert data["offset"] >= end, "nothing twice"
                first = -data["offset"] % 10
                for at in range(first, len(data["text"]) - 9, 10):
                    assert int(data["text"][at : at + 10]) == (data["offset"] + at) // 10
                end = data["offset"] + len(data["text"])
        assert end == 3_000_000
        result = events[-1][2]
        assert result["stdout_truncated"] and result["stdout_omitted_bytes"] == 3_000_000 - 2 * KEPT
    assert len(text_of(events, "stdout")) == 2 * KEPT


def test_it_begins_while_the_execution_waits(live: Api) -> None:
    session_id = live.session(max_concurrency=1)
    first = submit(live, session_id, HELD + "hold('go')")
    second = submit(live, session_id, "print('mine')")
    kinds = []
    for _, kind, data in stream(live, second):
        if kind == "status":
            kinds.append(data["status"])
            if data["status"] == "pending":
                go(live, session_id, "go")
    assert kinds == ["pending", "running", "completed"]
    assert live.get(f"/executions/{first}/result?wait=5").json()["status"] == "success"


def test_a_silent_run_keeps_the_line_alive_and_loses_nothing(live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has gone is only noticed when something is written to it; and who is kept waiting must not miss what comes."""
    monkeypatch.setattr(service, "KEEP_ALIVE", 0.2)
    session_id = live.session()
    execution = submit(live, session_id, HELD + "hold('go')\nprint('at last', flush=True)\nhold('end')")
    comments, text = 0, ""
    for _, kind, data in stream(live, execution):
        comments += kind == "comment"
        if comments == 3:
            go(live, session_id, "go")
            comments += 1
        if kind == "stdout":
            text += data["text"]
            assert Execution.objects.get(pk=execution).status == ExecutionStatus.RUNNING
            go(live, session_id, "end")
    assert text == "at last\n"


def test_who_goes_away_gives_its_place_back(live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefer, "_places", threading.BoundedSemaphore(1))
    session_id = live.session()
    execution = submit(live, session_id, HELD + "print('up', flush=True)\nhold('go')")
    for _ in range(3):
        reader = stream(live, execution)
        assert any(kind == "stdout" for _, kind, _ in reader)
        assert prefer._places.acquire(blocking=False) is False
        reader.close()  # what the web server does when a write fails
        assert prefer._places.acquire(blocking=False)
        prefer._places.release()
    # Without a place, what there is by now, and no end that has not been.
    with prefer.waiting_place():
        kinds = [kind for _, kind, _ in stream(live, execution)]
    assert kinds[-1] == "stdout" and "result" not in kinds
    go(live, session_id, "go")
    assert live.get(f"/executions/{execution}/result?wait=5").json()["status"] == "success"
    connections["default"].close_if_unusable_or_obsolete()


def test_a_stream_goes_on_with_the_next_attempt_from_its_beginning(live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor's word for the end of the first attempt is changed to `lost` on its way; all the rest is real."""
    real = AsyncExecutorClient.run

    async def run(self: AsyncExecutorClient, run_id: str, *args: Any) -> AsyncIterator[Event]:
        async for event in real(self, run_id, *args):
            lost = isinstance(event, Result) and not run_id.endswith("-2")
            yield dataclasses.replace(event, outcome="lost", exit_code=None) if lost else event  # type: ignore[type-var]

    monkeypatch.setattr(AsyncExecutorClient, "run", run)
    session_id = live.session()
    code = HELD + (
        "again = os.path.exists('once')\nopen('once', 'a').write('x')\n"
        "print('second' if again else 'the first attempt says more', flush=True)\nhold('go2' if again else 'go1')"
    )
    execution, seen = submit(live, session_id, code, retry_lost=True), []
    for number, kind, data in stream(live, execution):
        if kind == "comment":
            continue
        assert not seen or number > seen[-1][0]
        seen.append((number, kind, data))
        if kind == "stdout" and data["text"].strip():  # the end of the line may come by itself
            go(live, session_id, "go2" if "second" in data["text"] else "go1")
    told = [
        (data["status"], data["attempt"]) for _, kind, data in seen if kind == "status" and data["status"] != "pending"
    ]
    assert told == [("running", 1), ("running", 2), ("completed", 2)]
    printed = [(data["text"], data["offset"]) for _, kind, data in seen if kind == "stdout"]
    assert "".join(text for text, _ in printed) == "the first attempt says more\nsecond\n"
    assert [text.split()[0] for text, offset in printed if offset == 0] == ["the", "second"]
    assert seen[-1][2]["stdout"] == "second\n"
    # Who was cut off in the first attempt gets all of the second.
    last = next(number for number, kind, _ in seen if kind == "stdout")
    assert text_of(list(stream(live, execution, last)), "stdout") == "second\n"
    assert live.client.get(
        f"/api/v1/sessions/{session_id}/files/once", headers={"Authorization": f"Bearer {live.token}"}
    ).getvalue() == b"xx"  # fmt: skip
