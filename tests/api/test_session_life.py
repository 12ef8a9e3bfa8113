"""How sessions end by themselves: time-out, idleness, maximum life, a lost sandbox; and what is kept how long.

Time is moved in the rows, never waited for.
"""

import datetime as dt

import pytest
from django.db.models import F
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from executions_app.models import Execution
from runtime.services.nodes import driver_of
from sandbox_platform.queue import Queue, depth
from sessions_app.models import Owed, Session, StorageDebt
from sessions_app.services import lifecycle, provision, workspace
from tests.api.client import Api, error_of, eventually
from tests.factories import ExecutionFactory, SessionFactory

HOLD = "import os, time\nprint('held', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"


def running(api: Api, **fields: object) -> Session:
    now = dt.datetime.now(dt.UTC)
    values = {"started_at": now, "expires_at": now + dt.timedelta(seconds=300), **fields}
    return SessionFactory(project=api.project, running=True, **values)


def shown(api: Api, session: Session) -> tuple[str, str | None]:
    body = api.get(f"/sessions/{session.pk}").json()
    return body["status"], body["status_reason"]


def ago(**delta: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(**delta)


def test_at_its_time_out_it_ends_as_expired(api: Api) -> None:
    due, other = running(api, expires_at=ago(seconds=1)), running(api)
    waiting = ExecutionFactory(session=due)
    lifecycle.expire_due()
    assert shown(api, due) == ("timeout", "expired")
    assert shown(api, other) == ("running", None)
    error = api.get(f"/executions/{waiting.pk}/result").json()["error"]
    assert error["error_code"] == "Sandbox.SessionEnded"


def test_with_a_run_it_closes_first(api: Api) -> None:
    session = running(api, expires_at=ago(seconds=1), active_runs=1)
    run, waiting = ExecutionFactory(session=session, status="running"), ExecutionFactory(session=session)
    lifecycle.expire_due()
    lifecycle.expire_due()
    assert shown(api, session) == ("running", None)
    body = api.get(f"/executions/{waiting.pk}/result").json()
    assert (body["status"], body["error"]["error_code"]) == ("failed", "Sandbox.SessionEnded")
    assert api.get(f"/executions/{run.pk}/status").json()["status"] == "running"
    error_of(api.post(f"/sessions/{session.pk}/execute", {"code": "1", "language": "python"}), 404, "SessionNotFound")
    assert api.post(f"/executions/{run.pk}/cancel").status_code == 200
    Session.objects.update(active_runs=0)
    lifecycle.expire_due()
    assert shown(api, session) == ("timeout", "expired")


def test_the_maximum_life_is_hard(api: Api) -> None:
    session = running(api, started_at=ago(hours=6, seconds=1), expires_at=ago(seconds=-600), active_runs=1)
    lifecycle.expire_due()
    assert shown(api, session) == ("timeout", "max_lifetime")


def test_an_idle_one_ends_and_a_busy_one_does_not(api: Api) -> None:
    idle = running(api, last_activity_at=ago(minutes=31))
    busy = running(api, last_activity_at=ago(minutes=31), active_runs=1)
    fresh = running(api, last_activity_at=ago(minutes=29))
    lifecycle.expire_due()
    assert shown(api, idle) == ("terminated", "idle")
    assert shown(api, busy) == shown(api, fresh) == ("running", None)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/sessions/{session}"), ("GET", "/sessions/{session}/executions"), ("GET", "/executions/{execution}/result"),
     ("GET", "/executions/{execution}/status"), ("GET", "/executions/{execution}"), ("POST", "/sessions/{session}/execute"),
     ("GET", "/sessions/{session}/files")],
)  # fmt: skip
def test_every_request_for_a_session_keeps_it_from_being_idle(api: Api, method: str, path: str) -> None:
    session = running(api, last_activity_at=ago(minutes=31))
    execution = ExecutionFactory(session=session, status="completed")
    body = {"code": "1", "language": "python"} if method == "POST" else None
    api.call(method, path.format(session=session.pk, execution=execution.pk), body)
    lifecycle.expire_due()
    assert shown(api, session) == ("running", None)


def test_a_list_of_all_sessions_keeps_none_alive(api: Api) -> None:
    session = running(api, last_activity_at=ago(minutes=31))
    api.get("/sessions")
    lifecycle.expire_due()
    assert shown(api, session) == ("terminated", "idle")


def test_records_are_kept_for_thirty_days_and_files_for_one(api: Api) -> None:
    kept = SessionFactory(project=api.project, status="failed", ended_at=ago(days=29), released_at=ago(days=29))
    over = SessionFactory(project=api.project, status="failed", ended_at=ago(days=31), released_at=ago(days=31))
    execution = ExecutionFactory(session=over, status="completed")
    lifecycle.purge_old()
    assert api.get(f"/sessions/{kept.pk}").status_code == 200
    error_of(api.get(f"/sessions/{over.pk}"), 404, "SessionNotFound")
    error_of(api.get(f"/executions/{execution.pk}"), 404, "ExecutionNotFound")


def test_one_that_could_not_be_released_is_not_forgotten(api: Api) -> None:
    held = SessionFactory(project=api.project, status="failed", ended_at=ago(days=31))
    lifecycle.purge_old()
    assert Session.objects.filter(pk=held.pk).exists()


@pytest.mark.bubblewrap
def test_a_run_that_goes_on_over_the_time_out_comes_to_its_end(live: Api) -> None:
    session_id = live.session(max_concurrency=1)
    path = f"/sessions/{session_id}/execute"
    first = live.post(path, {"code": HOLD, "language": "python"}).json()["execution_id"]
    second = live.post(path, {"code": "1", "language": "python"}).json()["execution_id"]
    eventually(lambda: live.get(f"/executions/{first}/result").json()["stdout"])
    live.upload(session_id, "kept", b"x")
    Session.objects.filter(pk=session_id).update(expires_at=F("expires_at") - dt.timedelta(seconds=301))
    body = live.get(f"/executions/{second}/result?wait=20").json()
    assert (body["status"], body["error"]["error_code"]) == ("failed", "Sandbox.SessionEnded")
    assert live.get(f"/executions/{first}/status").json()["status"] == "running"
    assert live.get(f"/sessions/{session_id}").json()["status"] == "running"
    assert live.get(f"/sessions/{session_id}/files/kept").getvalue() == b"x"
    # Uploads are over with the session's end; the run is let go from outside.
    client = workspace.client_of(Session.objects.select_related("container").get(pk=session_id))
    client.put_file("go", [b""])
    assert live.get(f"/executions/{first}/result?wait=20").json()["status"] == "success"
    eventually(lambda: live.get(f"/sessions/{session_id}").json()["status"] == "timeout")
    assert live.get(f"/sessions/{session_id}").json()["status_reason"] == "expired"
    assert live.get(f"/sessions/{session_id}/files/kept").getvalue() == b"x"


@pytest.mark.bubblewrap
def test_a_sandbox_that_is_lost_ends_its_session_and_its_runs(live: Api) -> None:
    session_id = live.session(max_concurrency=1)
    path = f"/sessions/{session_id}/execute"
    first = live.post(path, {"code": HOLD, "language": "python"}).json()["execution_id"]
    second = live.post(path, {"code": "1", "language": "python"}).json()["execution_id"]
    eventually(lambda: live.get(f"/executions/{first}/result").json()["stdout"])
    container = Session.objects.select_related("container__node").get(pk=session_id).container
    driver_of(container.node).remove(container.name)
    session = eventually(lambda: (s := live.get(f"/sessions/{session_id}").json())["status"] != "running" and s)
    assert (session["status"], session["status_reason"]) == ("failed", "container_lost")
    results = [live.get(f"/executions/{pk}/result?wait=30").json() for pk in (first, second)]
    assert [result["status"] for result in results] == ["failed", "failed"]
    assert results[0]["error"]["error_code"] == "Sandbox.ExecLost"
    assert results[1]["error"]["error_code"] == "Sandbox.SessionEnded"
    assert live.get(f"/sessions/{session_id}/files").status_code == 200
    assert not Execution.objects.exclude(status="failed").exists()


@pytest.mark.bubblewrap
def test_an_image_that_is_gone_fails_the_session_in_words(live: Api) -> None:
    from templates_app.models import TemplateImage

    TemplateImage.objects.update(ref="/nowhere/at/all")
    answer = live.post("/sessions", {"template_id": "python-basic"}, headers={"Prefer": "wait=30"})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["status"], body["status_reason"]) == ("failed", "image_unavailable")
    assert body["status_detail"] and "/nowhere" not in body["status_detail"]


@pytest.mark.bubblewrap
def test_while_its_template_is_prepared_a_session_waits_and_says_so(live: Api) -> None:
    from templates_app.models import ImageStatus, TemplateImage
    from templates_app.signals import image_ready

    image = TemplateImage.objects.get()
    TemplateImage.objects.update(status=ImageStatus.BUILDING, ref="", detail="Installing packages", attempts=3)
    session_id = live.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    detail = eventually(lambda: live.get(f"/sessions/{session_id}").json()["status_detail"])
    assert "Installing packages" in detail
    assert live.get(f"/sessions/{session_id}").json()["status"] == "creating"
    TemplateImage.objects.update(status=ImageStatus.READY, ref=image.ref)
    image_ready.send(sender=TemplateImage, template_id="python-basic", runtime_type="bubblewrap")
    body = eventually(lambda: (s := live.get(f"/sessions/{session_id}").json())["status"] != "creating" and s)
    assert (body["status"], body["status_detail"]) == ("running", "")


def test_a_session_that_holds_something_is_rung_for_unless_its_files_are_still_to_be_saved(api: Api) -> None:
    held = SessionFactory(project=api.project, status="failed", ended_at=ago(minutes=2))
    waits = SessionFactory(project=api.project, status="failed", ended_at=ago(minutes=3))
    given_up = SessionFactory(project=api.project, status="failed", ended_at=ago(minutes=1))
    StorageDebt.objects.create(session=waits, what=Owed.SAVE)
    StorageDebt.objects.create(session=given_up, what=Owed.SAVE, lost_at=ago(seconds=1))
    provision.release_waiting()
    assert [call(task)[-1] for task in OrmQ.objects.filter(key="lifecycle").order_by("id")] == [held.pk, given_up.pk]


def test_doorbells_do_not_pile_up(api: Api) -> None:
    SessionFactory.create_batch(30, project=api.project, status="failed", ended_at=ago(minutes=2))
    provision.release_waiting()
    provision.release_waiting()
    assert depth(Queue.LIFECYCLE) == 30


def call(task: OrmQ) -> list:
    return SignedPackage.loads(task.payload)["args"]
