"""DELETE /sessions/{id}/files/{name}."""

import pytest

from tests.api.client import Api, error_of
from tests.api.questions import IdQuestions
from tests.factories import SessionFactory


class TestCommon(IdQuestions):
    method = "DELETE"
    path = "/sessions/{session}/files/{file}"
    methods = {"GET", "DELETE"}
    not_found = "SessionNotFound"


@pytest.mark.parametrize("path", ["%2Fetc%2Fpasswd", "..", "a/../b", "a//b", "a/", "%00", "./a", "x" * 1025])
def test_a_bad_path_is_400(api: Api, path: str) -> None:
    session = SessionFactory(project=api.project, running=True)
    error_of(api.delete(f"/sessions/{session.pk}/files/{path}"), 400, "InvalidParameter")


@pytest.mark.parametrize("status", ["terminated", "failed", "timeout"])
def test_an_ended_session_is_404(api: Api, status: str) -> None:
    session = SessionFactory(project=api.project, status=status)
    error_of(api.delete(f"/sessions/{session.pk}/files/a"), 404, "SessionNotFound")


@pytest.mark.bubblewrap
def test_it_deletes_one_file(live: Api) -> None:
    session_id = live.session()
    for path in ("dir/a", "dir/b", "upload"):
        live.upload(session_id, path, b"x")
        if path != "dir/b":
            answer = live.delete(f"/sessions/{session_id}/files/{path}")
            assert (answer.status_code, answer.content) == (204, b"")
            error_of(live.delete(f"/sessions/{session_id}/files/{path}"), 404, "FileNotFound")
    assert live.run(session_id, "import os; print(os.listdir('dir'))")["stdout"] == "['b']\n"
    answer = live.delete(f"/sessions/{session_id}/files/dir")
    assert answer.status_code in (404, 409)
    live.run(session_id, "import os; os.symlink('dir/b', 'link')")
    live.delete(f"/sessions/{session_id}/files/link")
    assert live.get(f"/sessions/{session_id}/files/dir/b").getvalue() == b"x"
