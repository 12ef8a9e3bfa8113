"""GET /sessions/{id}/files/{name}."""

import datetime as dt
import re
from urllib.parse import quote

import pytest

from sessions_app import downloads
from sessions_app.models import Session
from sessions_app.services import lifecycle
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdQuestions
from tests.factories import SessionFactory


class TestCommon(IdQuestions):
    path = "/sessions/{session}/files/{file}"
    methods = {"GET", "DELETE"}
    not_found = "SessionNotFound"


@pytest.mark.parametrize(
    "path", ["%2Fetc%2Fpasswd", "..", "a/../b", "a//b", "a/", "%00", "./a", "%2e%2e/%2e%2e/etc/passwd", "x" * 1025]
)
def test_a_bad_path_is_400(api: Api, path: str) -> None:
    session = SessionFactory(project=api.project, running=True)
    error_of(api.get(f"/sessions/{session.pk}/files/{path}"), 400, "InvalidParameter")


@pytest.mark.parametrize("query", ["redirect=maybe", "download=1", "redirect=", "redirect=true&redirect=false"])
def test_a_bad_parameter_is_400(api: Api, query: str) -> None:
    session = SessionFactory(project=api.project, running=True)
    error_of(api.get(f"/sessions/{session.pk}/files/a?{query}"), 400, "InvalidParameter")


@pytest.mark.parametrize(
    "name", ['a"b', "a\r\nX-Evil: 1", "a;b", "é\U0001f600", "\\", "%41", "a" * 255, " ", "'", "a\tb\x7f", "filename*=x"]
)
def test_the_header_names_the_file_and_injects_nothing(name: str) -> None:
    header = downloads.disposition(f"dir/{name}")
    assert header.isascii() and header.isprintable()
    plain, exact = re.fullmatch(
        r"attachment; filename=\"([^\"\\]*)\"; filename\*=UTF-8''([A-Za-z0-9%._~-]*)", header
    ).groups()
    assert exact == quote(name, safe="")
    assert len(plain) == len(name)


CONTENT = bytes(range(256)) * 40


@pytest.mark.bubblewrap
def test_the_whole_file_and_parts_of_it_live_and_after_the_end(live: Api) -> None:
    session_id = live.session()
    live.upload(session_id, "output/result.csv", CONTENT)
    live.upload(session_id, "empty", b"")
    _ask_for_all(live, f"/sessions/{session_id}/files/output/result.csv", f"/sessions/{session_id}/files/empty")
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    _ask_for_all(live, f"/sessions/{session_id}/files/output/result.csv", f"/sessions/{session_id}/files/empty")
    error_of(live.get(f"/sessions/{session_id}/files/output"), 404, "FileNotFound")
    error_of(live.get(f"/sessions/{session_id}/files/output/result.csv/x"), 404, "FileNotFound")
    day_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=24, minutes=1)
    Session.objects.filter(pk=session_id).update(ended_at=day_ago)
    error_of(live.get(f"/sessions/{session_id}/files/output/result.csv"), 404, "FileNotFound")
    assert live.get(f"/sessions/{session_id}/files").json()["files"] == []
    lifecycle.purge_old()
    assert Session.objects.get(pk=session_id).files_saved_at is None
    assert live.get(f"/sessions/{session_id}").status_code == 200


def _ask_for_all(live: Api, url: str, empty: str) -> None:
    whole = live.get(url)
    assert (whole.status_code, whole.getvalue()) == (200, CONTENT)
    assert whole.headers["Content-Length"] == str(len(CONTENT))
    assert whole.headers["Content-Type"] == "text/csv"
    assert whole.headers["Content-Disposition"].startswith('attachment; filename="result.csv"')
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["Accept-Ranges"] == "bytes"
    etag = whole.headers["ETag"]
    modified = whole.headers["Last-Modified"]
    assert re.fullmatch(r'"[^"]+"', etag)
    size = len(CONTENT)
    parts = {"bytes=0-0": (0, 1), "bytes=0-99": (0, 100), "bytes=100-": (100, size - 100), "bytes=-10": (size - 10, 10),
             "bytes=-999999": (0, size), f"bytes={size - 1}-": (size - 1, 1), "bytes=5-99999": (5, size - 5),
             "bytes=1-2": (1, 2)}  # fmt: skip
    for header, (offset, length) in parts.items():
        answer = live.get(url, Range=header)
        assert (answer.status_code, answer.getvalue()) == (206, CONTENT[offset : offset + length]), header
        assert answer.headers["Content-Range"] == f"bytes {offset}-{offset + length - 1}/{size}"
        assert answer.headers["Content-Length"] == str(length)
    for header in (
        "bytes=0-0,2-2",
        "bytes=5-2",
        "bytes=x-",
        "items=0-1",
        "bytes=",
        "bytes=-",
        "0-1",
        "bytes=--1",
        "bytes=0-" + "9" * 30,
    ):
        answer = live.get(url, Range=header)
        assert (answer.status_code, answer.getvalue()) == (200, CONTENT), header
    for header in (f"bytes={size}-", "bytes=999999-", "bytes=-0"):
        answer = live.get(url, Range=header)
        error_of(answer, 416, "RangeNotSatisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{size}"
    for header in (etag, f'"other", {etag}', "*", f"W/{etag}"):
        answer = live.get(url, **{"If-None-Match": header})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag), header
    assert live.get(url, **{"If-None-Match": '"other"'}).status_code == 200
    assert live.get(url, **{"If-Modified-Since": modified}).status_code == 304
    assert live.get(url, **{"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}).status_code == 200
    assert live.get(url, **{"If-Modified-Since": "nonsense"}).status_code == 200
    assert live.get(url, **{"If-Match": etag}).status_code == 200
    assert live.get(url, **{"If-Match": "*"}).status_code == 200
    error_of(live.get(url, **{"If-Match": '"other"'}), 412, "PreconditionFailed")
    assert live.get(url, **{"Range": "bytes=0-1", "If-Range": etag}).status_code == 206
    assert live.get(url, **{"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200
    assert live.get(url, Accept="text/csv").status_code == 200
    head = live.call("HEAD", url)
    assert (head.status_code, head.headers["Content-Length"], head.headers["ETag"]) == (200, str(size), etag)
    answer = live.get(empty)
    assert (answer.status_code, answer.getvalue()) == (200, b"")
    error_of(live.get(empty, Range="bytes=0-"), 416, "RangeNotSatisfiable")
    error_of(live.get(url + "x"), 404, "FileNotFound")


@pytest.mark.bubblewrap
def test_a_change_changes_the_etag(live: Api) -> None:
    session_id = live.session()
    url = f"/sessions/{session_id}/files/a"
    live.upload(session_id, "a", b"one")
    before = live.get(url).headers["ETag"]
    live.upload(session_id, "a", b"two")
    assert live.get(url).headers["ETag"] != before


@pytest.mark.bubblewrap
def test_nasty_names(live: Api) -> None:
    session_id = live.session()
    for name in (
        'a"b',
        "a\r\nX-Evil: 1",
        "a;b",
        "é\U0001f600",
        "back\\slash",
        "data:te\nxt/html,x",
        "data:text/é,x",
        "upload",
        "%41",
        "a?b#c",
        " ",
    ):
        live.upload(session_id, name, b"x")
        answer = live.get(f"/sessions/{session_id}/files/{quote(name)}")
        assert (answer.status_code, answer.getvalue()) == (200, b"x"), name
        assert "X-Evil" not in answer.headers
        assert answer.headers["Content-Disposition"] == downloads.disposition(name)
    assert live.get(f"/sessions/{session_id}/files").status_code == 200


@pytest.mark.bubblewrap
def test_what_is_no_file_of_the_workspace_is_404(live: Api) -> None:
    session_id = live.session()
    code = (
        "import os, socket\nos.mkdir('dir')\nos.mkfifo('fifo')\nsocket.socket(socket.AF_UNIX).bind('sock')\n"
        "for name, target in {'pw': '/etc/passwd', 'rel': '../etc/passwd', 'via': '/proc/self/root/etc/passwd', 'out': '/', 'self': 'self',"
        " 'chain': 'pw', 'dev': '/dev/zero'}.items():\n    os.symlink(target, name)\n"
    )
    assert live.run(session_id, code)["status"] == "success"
    for path in (
        "nothing",
        "dir",
        "fifo",
        "sock",
        "pw",
        "rel",
        "via",
        "out",
        "out/etc/passwd",
        "self",
        "chain",
        "dev",
        "dir/nothing",
    ):
        error_of(live.get(f"/sessions/{session_id}/files/{path}"), 404, "FileNotFound")
