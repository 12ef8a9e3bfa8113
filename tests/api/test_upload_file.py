"""POST /sessions/{id}/files/upload."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.test.client import FakePayload

from sessions_app.services import workspace
from tests.api.client import Api, error_of, eventually
from tests.api.questions import IdQuestions
from tests.factories import SessionFactory

BOUNDARY = "boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def send(api: Api, session_id: str, body: bytes, content_type: str = FORM, **headers: str) -> Any:
    return api.call(
        "POST", f"/sessions/{session_id}/files/upload", raw=body, content_type=content_type, headers=headers
    )


class TestCommon(IdQuestions):
    method = "POST"
    path = "/sessions/{session}/files/upload"
    methods = {"GET", "POST", "DELETE"}  # a file of that name is reached by the same path
    not_found = "SessionNotFound"

    def call(self, api: Api, ids: dict[str, str], **kwargs: Any) -> Any:
        body = form(part("file", b"x", "f"), part("path", b"a"))
        return api.call("POST", self.path.format(**ids), raw=body, content_type=FORM, **kwargs)

    @pytest.mark.parametrize("bad", ["x", "%00", "a" * 500])
    def test_an_odd_id_is_404(self, caller: Api, ids: dict[str, str], bad: str) -> None:
        error_of(self.call(caller, {"session": bad}), 404, "SessionNotFound")


@pytest.fixture
def session(api: Api) -> str:
    return SessionFactory(project=api.project, running=True).pk


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/octet-stream", "text/plain", "", "application/x-www-form-urlencoded"],
)
def test_anything_but_a_form_is_415(api: Api, session: str, content_type: str) -> None:
    error_of(send(api, session, b"{}", content_type), 415, "UnsupportedMediaType")


FILE, PATH = part("file", b"x", "f"), part("path", b"a")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(), FORM), (form(FILE), FORM), (form(PATH), FORM), (form(FILE, PATH, PATH), FORM), (form(FILE, FILE, PATH), FORM),
        (form(FILE, PATH, part("more", b"x")), FORM), (form(FILE, PATH, part("more", b"x", "f")), FORM), 
        (form(part("file", b"x"), PATH), FORM),
        (form(FILE, PATH), "multipart/form-data"), (form(FILE, PATH), "multipart/form-data; boundary=é"), (b"nonsense", FORM),
        (form(FILE, PATH), "multipart/form-data; boundary=" + "x" * 300), (form(FILE, part("path", b"a", "f")), FORM),
        (form(FILE, PATH), FORM + "; charset=hex"),
        (form(FILE, PATH).replace(b'name="path"', b"name*=undefined''path%41"), FORM),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_form_that_is_not_file_and_path_is_400(api: Api, session: str, body: bytes, content_type: str) -> None:
    error_of(send(api, session, body, content_type), 400, "InvalidParameter")


BAD_PATHS = [b"", b"/etc/passwd", b"..", b".", b"a/../b", b"./a", b"a/.", b"a//b", b"a/", b"a\0b", b"x" * 1025, b"\xff"]


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: repr(path)[:20])
def test_a_bad_path_is_400(api: Api, session: str, path: bytes) -> None:
    body = error_of(send(api, session, form(FILE, part("path", path))), 400, "InvalidParameter")
    assert "path" in body["error_detail"]


def test_a_path_is_never_held_in_memory_beyond_reason(api: Api, session: str) -> None:
    error_of(send(api, session, form(FILE, part("path", b"x" * (3 * 2**20)))), 413, "PayloadTooLarge")


def test_a_form_that_declares_too_much_is_413_before_it_is_read(api: Api, session: str) -> None:
    class Unread(FakePayload):
        def read(self, *args: Any) -> bytes:
            raise AssertionError("the body was read")

    answer = api.client.generic(
        "POST", f"/api/v1/sessions/{session}/files/upload", b"x", FORM, headers={"Authorization": f"Bearer {api.token}"},
        **{"CONTENT_LENGTH": str(10**12), "wsgi.input": Unread()},
    )  # fmt: skip
    error_of(answer, 413, "PayloadTooLarge")


@pytest.mark.parametrize("status", ["terminated", "failed", "timeout"])
def test_an_ended_session_is_404(api: Api, status: str) -> None:
    session = SessionFactory(project=api.project, status=status)
    error_of(send(api, session.pk, form(FILE, PATH)), 404, "SessionNotFound")


def test_a_session_that_does_not_come_up_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessions_app.file_views.START_WAIT", 0)
    session = SessionFactory(project=api.project)
    error_of(send(api, session.pk, form(FILE, PATH)), 503, "RuntimeUnavailable")


def test_a_sandbox_that_does_not_answer_is_503(api: Api, session: str) -> None:
    error_of(send(api, session, form(FILE, PATH)), 503, "RuntimeUnavailable")


class Zeros(io.RawIOBase):
    """A form whose file has `size` bytes, made while it is read."""

    def __init__(self, size: int) -> None:
        self.head = b"".join([part("path", b"big/zeros"), part("file", b"", "f")])[:-2]
        self.tail = b"\r\n" + form()
        self.left, self.total = size, len(self.head) + size + len(self.tail)
        self._pieces = self._make()
        self._rest = b""

    def _make(self) -> Iterator[bytes]:
        yield self.head
        while self.left:
            piece = bytes(min(self.left, 2**20))
            self.left -= len(piece)
            yield piece
        yield self.tail

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def send_zeros(api: Api, session_id: str, size: int, query: str = "") -> Any:
    body = Zeros(size)
    return api.client.generic(
        "POST", f"/api/v1/sessions/{session_id}/files/upload{query}", b"x", FORM, headers={"Authorization": f"Bearer {api.token}"},
        **{"CONTENT_LENGTH": str(body.total), "wsgi.input": body},
    )  # fmt: skip


@pytest.mark.bubblewrap
def test_it_answers_as_the_quickstart_says_in_either_order(live: Api) -> None:
    session_id = live.session()
    data = b"a,b\n" * 256
    for body in (
        form(part("file", data, "input.csv"), part("path", b"data/input.csv")),
        form(part("path", b"data/input.csv"), part("file", data, "x")),
    ):
        answer = send(live, session_id, body)
        assert (answer.status_code, answer.json()) == (200, {"path": "data/input.csv", "size": 1024})
    assert live.run(session_id, "print(len(open('data/input.csv').read()))")["stdout"] == "1024\n"


@pytest.mark.bubblewrap
def test_odd_names_and_contents_arrive_as_they_are(live: Api) -> None:
    session_id = live.session()
    names = [
        "back\\slash",
        "..\\up",
        "new\nline",
        "é ü/\U0001f600",
        "q\"uo'te",
        "x" * 255,
        "-rf",
        "a;b",
        "data:a\nb,",
        "upload",
        "files/upload",
        "%2e%2e",
        "~",
    ]
    for name in names:
        assert live.upload(session_id, name, name.encode() + b"\0\r\n").status_code == 200, name
        assert (
            live.run(session_id, "def handler(event):\n    return open(event, newline='').read()", event=name)[
                "return_value"
            ]
            == name + "\0\r\n"
        )
    assert {item["path"] for item in live.get(f"/sessions/{session_id}/files").json()["files"]} == set(names)
    assert live.upload(session_id, "empty", b"").json() == {"path": "empty", "size": 0}
    assert live.upload(session_id, "x" * 256, b"").status_code == 400


@pytest.mark.bubblewrap
def test_it_replaces_and_is_stopped_by_a_folder(live: Api) -> None:
    session_id = live.session()
    live.upload(session_id, "dir/a", b"old")
    live.upload(session_id, "dir/a", b"new")
    assert live.get(f"/sessions/{session_id}/files/dir/a").getvalue() == b"new"
    error_of(live.upload(session_id, "dir", b"x"), 409, "Conflict")
    error_of(live.upload(session_id, "dir/a/b", b"x"), 409, "Conflict")


@pytest.mark.bubblewrap
def test_a_symlink_leads_nowhere_outside(live: Api) -> None:
    session_id = live.session()
    live.run(
        session_id, "import os\nos.symlink('/etc', 'out')\nos.symlink('/tmp', 'tmp')\nos.symlink('/etc/passwd', 'pw')"
    )
    for path in ("out/evil", "tmp/evil"):
        answer = live.upload(session_id, path, b"x")
        assert answer.status_code in (400, 404, 409), answer.content
    live.upload(session_id, "pw", b"x")
    assert "root" in live.run(session_id, "print(open('/etc/passwd').read())")["stdout"]


@pytest.mark.bubblewrap
def test_a_hundred_mib_fit_and_a_byte_more_is_413_and_leaves_nothing(live: Api) -> None:
    session_id = live.session()
    error_of(send_zeros(live, session_id, workspace.MAX_FILE + 1), 413, "PayloadTooLarge")
    assert live.get(f"/sessions/{session_id}/files").json()["files"] == []
    answer = send_zeros(live, session_id, workspace.MAX_FILE)
    assert answer.json() == {"path": "big/zeros", "size": workspace.MAX_FILE}


@pytest.mark.bubblewrap
def test_while_the_session_is_created_it_waits(live: Api) -> None:
    session_id = live.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    assert live.upload(session_id, "a", b"x").status_code == 200


@pytest.mark.bubblewrap
def test_no_temporary_file_stays(live: Api, settings: Any) -> None:
    from pathlib import Path

    session_id = live.session()
    live.upload(session_id, "a", b"x" * 2**20)
    send(live, session_id, form(FILE, FILE, PATH))
    eventually(lambda: not list(Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir()))
