"""DELETE /sessions/{id}."""

import threading

import pytest
from django.db import connection

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import finish
from executions_app.services.ending import Ending
from sandbox_platform.queue import Queue, depth
from sessions_app.models import Session
from sessions_app.services import lifecycle
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdQuestions
from tests.factories import ExecutionFactory, SessionFactory

MESSAGE = {"message": "Session terminated successfully"}


class TestCommon(IdQuestions):
    method = "DELETE"
    path = "/sessions/{session}"
    methods = {"GET", "PATCH", "DELETE"}
    not_found = "SessionNotFound"


@pytest.mark.parametrize("state", ["creating", "running"])
def test_it_answers_as_the_quickstart_says_again_and_again(api: Api, state: str) -> None:
    session = SessionFactory(project=api.project, status=state)
    for _ in range(3):
        answer = api.delete(f"/sessions/{session.pk}")
        assert (answer.status_code, answer.json()) == (200, MESSAGE)
    body = api.get(f"/sessions/{session.pk}").json()
    assert (body["status"], body["status_reason"]) == ("terminated", "terminated_by_client")
    assert body["ended_at"]
    assert depth(Queue.LIFECYCLE) == 1


@pytest.mark.parametrize(
    ("state", "reason"), [("failed", "oom_killed"), ("timeout", "expired"), ("terminated", "idle")]
)
def test_one_that_ended_otherwise_stays_as_it_is(api: Api, state: str, reason: str) -> None:
    session = SessionFactory(project=api.project, status=state, status_reason=reason)
    assert api.delete(f"/sessions/{session.pk}").json() == MESSAGE
    session.refresh_from_db()
    assert (session.status, session.status_reason) == (state, reason)


def test_runs_that_wait_end_with_it(api: Api) -> None:
    execution = ExecutionFactory(session__project=api.project)
    api.delete(f"/sessions/{execution.session_id}")
    result = api.get(f"/executions/{execution.pk}/result").json()
    assert (result["status"], result["error"]["error_code"]) == ("failed", "Sandbox.SessionEnded")


@pytest.mark.parametrize("query", ["purge=yes", "purge=", "purge=2", "surprise=1", "purge=true&purge=false"])
def test_a_bad_parameter_is_400_and_ends_nothing(api: Api, query: str) -> None:
    session = SessionFactory(project=api.project)
    error_of(api.delete(f"/sessions/{session.pk}?{query}"), 400, "InvalidParameter")
    session.refresh_from_db()
    assert session.status == "creating"


def test_purge_erases_outputs_at_once(api: Api) -> None:
    execution = ExecutionFactory(
        session__project=api.project, session__status="running", status="failed", stdout=b"secret", return_value='"secret"',
        event='"secret"', args=["secret"], artifacts=[{"path": "secret", "size": 1, "change": "created"}],
        error={"error_code": "Sandbox.ExecException", "type": "secret", "message": "secret", "traceback": "secret"},
        working_directory="secret",
    )  # fmt: skip
    fine = ExecutionFactory(session=execution.session, status="completed")
    api.delete(f"/sessions/{execution.session_id}?purge=true")
    for path in ("", "/status", "/result", "/events"):
        answer = api.get(f"/executions/{execution.pk}{path}")
        assert answer.status_code == 200
        assert b"secret" not in (answer.getvalue() if path == "/events" else answer.content)
    # Failed, cancelled and lost are told apart by the code alone.
    assert api.get(f"/executions/{execution.pk}/result").json()["error"]["error_code"] == "Sandbox.ExecException"
    assert api.get(f"/executions/{fine.pk}/result").json()["error"] is None


def erased(api: Api, execution_id: str) -> bool:
    return not any(b"secret" in api.get(f"/executions/{execution_id}{path}").content for path in ("", "/result"))


def test_purge_erases_a_run_that_ends_later(api: Api) -> None:
    execution = ExecutionFactory(
        session__project=api.project, session__running=True, session__active_runs=1, status="running", code="secret"
    )
    api.delete(f"/sessions/{execution.session_id}?purge=true")
    assert finish.finish(execution, Ending(ExecutionStatus.COMPLETED, {"stdout": b"secret", "return_value": "secret"}))
    assert api.get(f"/executions/{execution.pk}").json()["status"] == "completed"
    assert erased(api, execution.pk)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_purge_beside_the_end_of_a_run(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its first row, and wants the other's."""
    execution = ExecutionFactory(
        session__project=api.project, session__running=True, session__active_runs=1, status="running", code="secret"
    )
    free, purged, answers = lifecycle.free_slot, threading.Event(), []

    def purge() -> None:
        answers.append(api.delete(f"/sessions/{execution.session_id}?purge=true"))
        connection.close()
        purged.set()

    thread = threading.Thread(target=purge)

    def free_slot(session_id: str) -> lifecycle.Freed:
        thread.start()
        eventually(lambda: purged.is_set() or blocked())
        return free(session_id)

    monkeypatch.setattr(lifecycle, "free_slot", free_slot)
    artifacts = [{"path": "secret", "size": 1, "change": "created"}]
    assert finish.finish(execution, Ending(ExecutionStatus.COMPLETED, {"stdout": b"secret", "artifacts": artifacts}))
    thread.join(20)
    assert [answer.status_code for answer in answers] == [200]
    assert erased(api, execution.pk)


def blocked() -> bool:
    """Whether a statement waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0])


@pytest.mark.bubblewrap
def test_it_frees_the_sandbox_and_keeps_the_files(live: Api) -> None:
    session_id = live.session()
    live.upload(session_id, "kept.txt", b"kept")
    container_id = live.get(f"/sessions/{session_id}").json()["container_id"]
    assert live.delete(f"/sessions/{session_id}").json() == MESSAGE
    # also in the moment between the end and the saved copy
    assert live.get(f"/sessions/{session_id}/files/kept.txt").getvalue() == b"kept"
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    assert live.get(f"/containers/{container_id}").json()["status"] == "removed"
    assert live.get(f"/sessions/{session_id}/files/kept.txt").getvalue() == b"kept"
    assert live.get(f"/sessions/{session_id}").json()["container_id"] == container_id


@pytest.mark.bubblewrap
def test_a_running_run_is_cancelled_and_keeps_what_it_printed(live: Api) -> None:
    session_id = live.session()
    answer = live.post(
        f"/sessions/{session_id}/execute", {"code": "import time\nprint('so far', flush=True)\ntime.sleep(60)", "language": "python"}
    )  # fmt: skip
    execution_id = answer.json()["execution_id"]
    eventually(lambda: live.get(f"/executions/{execution_id}/result").json()["stdout"])
    live.delete(f"/sessions/{session_id}")
    result = live.get(f"/executions/{execution_id}/result?wait=20").json()
    assert (result["status"], result["error"]["error_code"]) == ("failed", "Sandbox.SessionEnded")
    assert result["stdout"] == "so far\n"


@pytest.mark.bubblewrap
def test_purge_erases_files_of_a_sandbox(live: Api) -> None:
    session_id = live.session()
    live.upload(session_id, "secret.txt", b"secret")
    live.run(session_id, "print('secret')")
    live.delete(f"/sessions/{session_id}?purge=true")
    error_of(live.get(f"/sessions/{session_id}/files/secret.txt"), 404, "FileNotFound")
    assert live.get(f"/sessions/{session_id}/files").json()["files"] == []
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    error_of(live.get(f"/sessions/{session_id}/files/secret.txt"), 404, "FileNotFound")
    assert bytes(Execution.objects.get(session=session_id).stdout) == b""


@pytest.mark.bubblewrap
def test_purge_after_the_end_erases_what_was_saved(live: Api) -> None:
    session_id = live.session()
    live.upload(session_id, "secret.txt", b"secret")
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    live.delete(f"/sessions/{session_id}?purge=true")
    error_of(live.get(f"/sessions/{session_id}/files/secret.txt"), 404, "FileNotFound")
    eventually(lambda: Session.objects.get(pk=session_id).files_saved_at is None)
