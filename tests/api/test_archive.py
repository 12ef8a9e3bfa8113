"""GET /sessions/{id}/files?archive=tar.gz."""

from __future__ import annotations

import io
import tarfile

import pytest

from sessions_app.models import Session
from tests.api.client import Api, error_of, eventually
from tests.factories import SessionFactory

FILES = {
    "a.txt": b"one",
    "dir/" + "x" * 200: b"y" * 300_001,
    "dir/\u00e9 \u6587": b"",
    "back\\slash": b"x" * 512,
    "new\nline": b"x",
}


def contents(api: Api, session_id: str, query: str = "") -> dict[str, bytes]:
    answer = api.get(f"/sessions/{session_id}/files?archive=tar.gz{query}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/gzip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{session_id}.tar.gz"'
    with tarfile.open(fileobj=io.BytesIO(answer.getvalue()), mode="r:gz") as archive:
        assert all(member.isreg() for member in archive.getmembers())
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}


@pytest.mark.parametrize("archive", ["zip", "", "tar"])
def test_another_kind_is_400(api: Api, archive: str) -> None:
    session = SessionFactory(project=api.project, running=True)
    error_of(api.get(f"/sessions/{session.pk}/files?archive={archive}"), 400, "InvalidParameter")


def test_a_session_without_files_gives_an_empty_one(api: Api) -> None:
    session = SessionFactory(project=api.project, status="terminated")
    assert contents(api, session.pk) == {}


@pytest.mark.bubblewrap
def test_a_folder_is_one_download_live_and_after_the_end(live: Api) -> None:
    session_id = live.session()
    for path, data in FILES.items():
        live.upload(session_id, path, data)
    live.run(
        session_id, "import os\nos.symlink('/etc/passwd', 'dir/link')\nos.mkfifo('fifo')\nos.link('a.txt', 'hard')"
    )
    everything = {**FILES, "hard": b"one"}
    folder = {path: data for path, data in FILES.items() if path.startswith("dir/")}
    top = {path: data for path, data in everything.items() if "/" not in path}
    for ended in (False, True):
        if ended:
            live.delete(f"/sessions/{session_id}")
            eventually(lambda: Session.objects.get(pk=session_id).released_at, 60)
        assert contents(live, session_id) == everything
        assert contents(live, session_id, "&prefix=dir/") == folder
        assert contents(live, session_id, "&recursive=false") == top
