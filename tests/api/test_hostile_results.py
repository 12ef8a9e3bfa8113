"""What a hostile executor may put into a result: the most of it can be stored, and what can't ends the run all the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from executions_app.services import ending
from executions_app.services.ending import Collected, Ending
from executions_app.services.keep import keep
from runtime.drivers.executor_client import Output, protocol
from tests.api.client import Api
from tests.factories import ExecutionFactory

MOST = 2**63 - 1
LARGEST = 2.0**63 * (1 - 2**-53)
NASTY = "\0\x01\x1f\u2028\uffff😀"
EXTREMES: dict[str, dict[str, Any]] = {
    "the largest numbers": {
        "exit_code": 2**31 - 1,
        "duration_ms": MOST,
        "cpu_time_ms": LARGEST,
        "peak_memory_mb": MOST,
    },
    "the smallest numbers": {"exit_code": -(2**31), "duration_ms": 0, "cpu_time_ms": 5e-324, "peak_memory_mb": 0},
    "the longest streams": dict.fromkeys(("stdout_bytes", "stderr_bytes", "stdout_omitted", "stderr_omitted"), MOST),
    "nasty text": {
        "outcome": "exception",
        "error": {"type": NASTY, "message": NASTY, "traceback": NASTY},
        "artifacts": [{"path": "\x01\uffff😀", "size": MOST, "change": "created"}],
    },
    "odd JSON": {"return_value": '["\\u0000\\ud800", 1e999999, ' + "9" * 5000 + ', {"a": 1, "a": 2}]'},
}
PLAIN = {
    "outcome": "ok", "exit_code": 0, "return_value": None, "error": None, "duration_ms": 1, "cpu_time_ms": 1, "peak_memory_mb": 1,
    "stdout_bytes": 0, "stderr_bytes": 0, "stdout_omitted": 0, "stderr_omitted": 0, "artifacts": [], "artifacts_truncated": False,
}  # fmt: skip


def running(api: Api) -> Any:
    return ExecutionFactory(session__project=api.project, session__active_runs=1, status="running")


@pytest.mark.parametrize("extreme", EXTREMES.values(), ids=EXTREMES)
def test_the_most_that_the_protocol_takes_can_be_stored_and_shown(api: Api, extreme: dict[str, Any]) -> None:
    collected = Collected(result=protocol.parse_result({**PLAIN, **extreme}))
    end, execution = ending.of_result(collected, session_ended=False), running(api)
    assert keep(execution, end)
    execution.refresh_from_db()
    assert execution.status == end.status
    for name, value in end.values.items():
        stored = getattr(execution, name)
        assert stored == (float(value) if isinstance(stored, float) else value), name
    assert api.get(f"/executions/{execution.pk}/result").status_code == 200


def test_output_that_claims_to_end_at_the_last_number_can_be_stored(api: Api) -> None:
    """Of a run that has no result: then the stream itself says how long it is."""
    collected, execution = Collected(), running(api)
    collected.add(Output("stdout", MOST - 2, b"hi"))
    assert keep(execution, ending.without_result(collected, "timeout"))
    execution.refresh_from_db()
    assert (execution.status, execution.stdout_omitted) == ("timeout", MOST - 2)


def test_what_can_not_be_stored_ends_the_run_as_lost(api: Api) -> None:
    execution = running(api)
    end = ending.without_result(None, "timeout")
    assert keep(execution, Ending(end.status, {**end.values, "stdout": b"kept", "exit_code": 2**70}))
    execution.refresh_from_db()
    assert (execution.status, execution.error["error_code"]) == ("failed", "Sandbox.ExecLost")
    assert bytes(execution.stdout) == b"" and execution.exit_code is None
    execution.session.refresh_from_db()
    assert execution.session.active_runs == 0


@pytest.mark.bubblewrap
@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=20"}], ids=["a worker drives", "the request's thread drives"])
def test_whoever_drives_such_a_run_brings_it_to_its_end(
    live: Api, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    real = ending.of_result

    def poisoned(*args: Any) -> Ending:
        end = real(*args)
        return dataclasses.replace(end, values={**end.values, "exit_code": 2**70})

    session_id = live.session()
    with monkeypatch.context() as patch:
        patch.setattr(ending, "of_result", poisoned)
        body = {"code": "print(1)", "language": "python"}
        answer = live.post(f"/sessions/{session_id}/execute", body, headers=headers)
        assert answer.status_code == 200
        result = live.get(f"/executions/{answer.json()['execution_id']}/result?wait=10").json()
    assert (result["status"], result["error"]["error_code"]) == ("failed", "Sandbox.ExecLost"), result
    assert live.run(session_id, "def handler(event): return 1")["return_value"] == 1
