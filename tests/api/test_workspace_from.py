"""`workspace_from` of POST /sessions: restore and fork."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import transaction

from runtime.models import Container
from sandbox_platform.models import Process
from sessions_app.models import Session, SessionStatus
from sessions_app.services import forks
from tests.api.client import Api, error_of, eventually
from tests.factories import SessionFactory

FILES = {"a.txt": b"one", "dir/\u00e9 \u6587.bin": b"x" * 300_000, "empty": b""}


def create(api: Api, source: str) -> Any:
    return api.post("/sessions", {"template_id": "python-basic", "workspace_from": source})


def test_whose_files_one_may_not_have(api: Api, stranger: Api) -> None:
    for odd in ("sess_nothing", "", "x" * 101):
        assert create(api, odd).status_code in (400, 404)
    theirs = SessionFactory(project=stranger.project, running=True)
    error_of(create(api, theirs.pk), 404, "SessionNotFound")
    young = SessionFactory(project=api.project)
    error_of(create(api, young.pk), 409, "Conflict")
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=25)
    old = SessionFactory(project=api.project, status=SessionStatus.TERMINATED, ended_at=long_ago)
    error_of(create(api, old.pk), 400, "InvalidParameter")
    purged = SessionFactory(
        project=api.project, status=SessionStatus.TERMINATED, purge=True, ended_at=dt.datetime.now(dt.UTC)
    )
    error_of(create(api, purged.pk), 400, "InvalidParameter")
    assert Session.objects.filter(project=api.project).count() == 3


@pytest.mark.bubblewrap
def test_a_session_starts_with_the_files_of_a_live_and_of_an_ended_one(live: Api, either: Any) -> None:
    first = live.session()
    for path, data in FILES.items():
        live.upload(first, path, data)
    live.run(first, "import os\nos.symlink('/etc/passwd', 'link')\nos.mkfifo('fifo')")
    fork = live.session(workspace_from=first)
    live.upload(fork, "a.txt", b"changed")
    assert live.get(f"/sessions/{first}/files/a.txt").getvalue() == b"one"
    live.delete(f"/sessions/{first}")
    eventually(lambda: Session.objects.get(pk=first).released_at)
    restored = live.session(workspace_from=first)
    got = {
        item["path"]: live.get(f"/sessions/{restored}/files/{item['path']}").getvalue()
        for item in live.get(f"/sessions/{restored}/files").json()["files"]
    }
    assert got == FILES
    listing = live.run(restored, "import os\nprint(sorted(os.listdir()))")["stdout"]
    assert listing == "['a.txt', 'dir', 'empty']\n"


@pytest.mark.bubblewrap
def test_a_restore_that_is_cut_short_is_taken_over_and_completed(live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maker dies in the middle: its row is that of a dead process, as after kill -9, and nobody sees a session half filled."""
    first = live.session()
    for number in range(5):
        live.upload(first, str(number), b"x" * 1000)
    real, copied = forks._copy, []

    def dies(origin: Session, session: Session, path: str) -> None:
        copied.append(path)
        if len(copied) == 3:
            # What kill -9 leaves: the container is another process's, which is dead.
            dead = Process.objects.create(kind="worker:lifecycle", host="h", pid=1, dead_at=dt.datetime.now(dt.UTC))
            assert Session.objects.get(pk=session.pk).status == SessionStatus.CREATING
            with transaction.atomic():
                Container.objects.filter(session=session).update(maker=dead.pk)
            raise SystemExit
        real(origin, session, path)

    def fill_once(session: Session) -> None:
        try:
            real_fill(session)
        except SystemExit:
            raise forks.CannotFill("killed", passing=True) from None

    real_fill = forks.fill
    monkeypatch.setattr(forks, "_copy", dies)
    monkeypatch.setattr(forks, "fill", fill_once)
    restored = live.session(workspace_from=first)
    assert len(copied) == 8
    assert {item["path"] for item in live.get(f"/sessions/{restored}/files").json()["files"]} == set("01234")
