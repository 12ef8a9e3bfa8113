"""GET /sessions/{id}/files."""

import pytest

from sessions_app.models import Session
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdQuestions
from tests.factories import SessionFactory


class TestCommon(IdQuestions):
    path = "/sessions/{session}/files"
    methods = {"GET"}
    not_found = "SessionNotFound"


@pytest.mark.parametrize(
    "query",
    ["surprise=1", "recursive=maybe", "recursive=", "prefix=/etc", "prefix=..", "prefix=a/../b", "prefix=a//", "prefix=%00", "prefix=/",
     "prefix=a&prefix=b", "prefix=" + "x" * 1025, "limit=10"],
    ids=lambda query: query[:20],
)  # fmt: skip
def test_a_bad_parameter_is_400(api: Api, query: str) -> None:
    session = SessionFactory(project=api.project, running=True)
    error_of(api.get(f"/sessions/{session.pk}/files?{query}"), 400, "InvalidParameter")


def test_a_sandbox_that_does_not_answer_is_503(api: Api) -> None:
    session = SessionFactory(project=api.project, running=True)
    error_of(api.get(f"/sessions/{session.pk}/files"), 503, "RuntimeUnavailable")


def test_a_session_that_never_ran_has_none(api: Api) -> None:
    session = SessionFactory(project=api.project, status="failed")
    assert api.get(f"/sessions/{session.pk}/files").json() == {"files": [], "total": 0, "truncated": False}


FILES = ["a.txt", "data/input.csv", "data/more/deep.json", "data2/x", "back\\slash", "..\\up", "data:a\nb,", "é"]


def paths(api: Api, session_id: str, query: str = "") -> list[str]:
    answer = api.get(f"/sessions/{session_id}/files{query}")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert body["total"] == len(body["files"]) and body["truncated"] is False
    return [item["path"] for item in body["files"]]


@pytest.mark.bubblewrap
def test_the_same_list_live_and_after_the_end(live: Api) -> None:
    session_id = live.session()
    for path in FILES:
        live.upload(session_id, path, b"12345")
    live.run(session_id, "import os\nos.makedirs('empty')\nos.symlink('/etc/passwd', 'link')\nos.mkfifo('fifo')")
    queries = ["", "?recursive=false", "?prefix=data", "?prefix=data/", "?prefix=data/&recursive=false", "?prefix=data/in",
               "?prefix=nothing", "?prefix=data&recursive=false", "?prefix=a.txt", "?recursive=true&prefix=data/more"]  # fmt: skip
    before = {query: paths(live, session_id, query) for query in queries}
    assert set(before[""]) == set(FILES)
    assert set(before["?recursive=false"]) == {path for path in FILES if "/" not in path}
    assert set(before["?prefix=data/"]) == {"data/input.csv", "data/more/deep.json"}
    assert set(before["?prefix=data/&recursive=false"]) == {"data/input.csv"}
    assert before["?prefix=data/in"] == ["data/input.csv"]
    assert before["?prefix=nothing"] == []
    (item,) = live.get(f"/sessions/{session_id}/files?prefix=data/input").json()["files"]
    assert (item["size"], item["mime_type"]) == (5, "text/csv")
    assert item["modified_at"].endswith("Z")
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    assert Session.objects.get(pk=session_id).files_saved_at
    for query in queries:
        assert sorted(paths(live, session_id, query)) == sorted(before[query]), query
    for path in FILES:
        from urllib.parse import quote

        assert live.get(f"/sessions/{session_id}/files/{quote(path)}").getvalue() == b"12345", path


@pytest.mark.bubblewrap
def test_what_can_not_be_stored_does_not_keep_the_sandbox(live: Api) -> None:
    session_id = live.session()
    code = (
        "import os\n"
        "for n in range(20):\n    os.mkdir('d' * 200); os.chdir('d' * 200)\n"
        "open('x' * 60, 'w')\nos.chdir('/workspace')\n"
        "open('\\\\' * 255, 'w').write('x')\nopen(b'\\xff', 'w').write('x')\nopen('kept', 'w').write('x')\n"
        "os.mkdir('shut'); open('shut/x', 'w'); os.chmod('shut', 0)"
    )
    assert live.run(session_id, code)["status"] == "success"
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    assert "kept" in paths(live, session_id)
