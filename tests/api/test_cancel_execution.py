"""POST /executions/{id}/cancel."""

import pytest

from executions_app.models import Execution
from sandbox_platform.queue import Queue, depth
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdempotencyQuestions, IdQuestions
from tests.factories import ExecutionFactory


class TestCommon(IdempotencyQuestions, IdQuestions):
    method = "POST"
    path = "/executions/{execution}/cancel"
    methods = {"POST"}
    not_found = "ExecutionNotFound"


def test_one_that_waits_ends_at_once(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project)
    answer = api.post(f"/executions/{execution.pk}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert answer.json() == api.get(f"/executions/{execution.pk}/status").json()
    error = api.get(f"/executions/{execution.pk}/result").json()["error"]
    assert error["error_code"] == "Sandbox.ExecCancelled"


def test_one_that_runs_is_told(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project, status="running")
    answer = api.post(f"/executions/{execution.pk}/cancel", {})
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert depth(Queue.RUNS) == 1
    assert Execution.objects.get().cancel_requested_at


@pytest.mark.parametrize("status", ["completed", "failed", "timeout"])
def test_one_that_is_done_stays_as_it_is(api: Api, status: str) -> None:
    execution = ExecutionFactory(session__project=api.project, status=status)
    for _ in range(2):
        answer = api.post(f"/executions/{execution.pk}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, status)


@pytest.mark.parametrize("status", ["terminated", "failed", "timeout"])
def test_of_an_ended_session_it_is_404(api: Api, status: str) -> None:
    execution = ExecutionFactory(session__project=api.project, session__status=status)
    error_of(api.post(f"/executions/{execution.pk}/cancel"), 404, "SessionNotFound")


def test_a_body_is_400(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project)
    error_of(api.post(f"/executions/{execution.pk}/cancel", {"why": "not"}), 400, "InvalidParameter")
    error_of(api.post(f"/executions/{execution.pk}/cancel", raw=b"{"), 400, "InvalidParameter")


@pytest.mark.bubblewrap
def test_a_running_one_ends_soon_and_keeps_what_it_printed(live: Api) -> None:
    session_id = live.session()
    code = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('so far', flush=True)\ntime.sleep(60)"
    submitted = live.post(f"/sessions/{session_id}/execute", {"code": code, "language": "python"}).json()
    execution_id = submitted["execution_id"]
    eventually(lambda: live.get(f"/executions/{execution_id}/result").json()["stdout"])
    live.post(f"/executions/{execution_id}/cancel")
    result = live.get(f"/executions/{execution_id}/result?wait=10").json()
    assert (result["status"], result["error"]["error_code"]) == ("failed", "Sandbox.ExecCancelled")
    assert (result["stdout"], result["return_value"]) == ("so far\n", None)
    assert live.run(session_id, "print('usable')")["stdout"] == "usable\n"


@pytest.mark.bubblewrap
def test_one_that_waits_for_a_slot_never_runs(live: Api) -> None:
    session_id = live.session(max_concurrency=1)
    path = f"/sessions/{session_id}/execute"
    first = live.post(path, {"code": "import time; time.sleep(60)", "language": "python"}).json()["execution_id"]
    second = live.post(path, {"code": "open('ran', 'w')", "language": "python"}).json()["execution_id"]
    eventually(lambda: live.get(f"/executions/{first}/status").json()["status"] == "running")
    assert live.get(f"/executions/{second}/status").json()["status"] == "pending"
    assert live.post(f"/executions/{second}/cancel").json()["status"] == "failed"
    live.post(f"/executions/{first}/cancel")
    assert live.get(f"/executions/{first}/status?wait=10").json()["status"] == "failed"
    assert live.run(session_id, "import os; print(os.path.exists('ran'))")["stdout"] == "False\n"
