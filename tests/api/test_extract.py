"""POST /sessions/{id}/files/upload?extract=true. What the sandbox makes of archives is in tests/executor/test_unpack.py."""

from __future__ import annotations

import gzip
import os
from typing import Any

import pytest

from tests.api.client import Api, error_of, eventually
from tests.api.test_upload_file import FORM, form, part, send_zeros
from tests.executor.test_unpack import BAD, FILES, KINDS, member, tar, zipped
from tests.factories import SessionFactory


def extract(
    api: Api, session_id: str, archive: bytes, path: str | None = None, last: bool = False, query: str = "extract=true"
) -> Any:
    parts = [part("file", archive, "archive")]
    if path is not None:
        parts.insert(len(parts) if last else 0, part("path", path.encode()))
    return api.call("POST", f"/sessions/{session_id}/files/upload?{query}", raw=form(*parts), content_type=FORM)


def listed(api: Api, session_id: str) -> dict[str, int]:
    return {item["path"]: item["size"] for item in api.get(f"/sessions/{session_id}/files").json()["files"]}


@pytest.mark.parametrize("query", ["extract=maybe", "extract=", "extract=true&extract=true", "unpack=true"])
def test_a_bad_parameter_is_400(api: Api, query: str) -> None:
    session = SessionFactory(project=api.project, running=True)
    error_of(extract(api, session.pk, b"x", "a", query=query), 400, "InvalidParameter")


@pytest.mark.parametrize("path", ["", "/etc", "..", "a/../b", "a//b", "a\0b", "x" * 1025])
def test_a_bad_folder_is_400(api: Api, path: str) -> None:
    session = SessionFactory(project=api.project, running=True)
    body = error_of(extract(api, session.pk, KINDS["tar"], path, last=True), 400, "InvalidParameter")
    assert "path" in body["error_detail"]


def test_it_is_for_live_sessions_alone(api: Api) -> None:
    session = SessionFactory(project=api.project, status="terminated")
    error_of(extract(api, session.pk, KINDS["tar"]), 404, "SessionNotFound")
    error_of(extract(api, "sess_0000000000000000", KINDS["tar"]), 404, "SessionNotFound")


@pytest.mark.bubblewrap
def test_it_answers_what_it_has_written(live: Api) -> None:
    session_id = live.session()
    sizes = {name: len(data) for name, data in FILES.items()}
    for kind, path, last in (("tar.gz", None, False), ("zip", "to/here", True), ("tar.xz", "to/there", False)):
        answer = extract(live, session_id, KINDS[kind], path, last)
        below = f"{path}/" if path else ""
        assert (answer.status_code, answer.json()) == (200, {
            "path": path or "", "size": sum(sizes.values()), "count": len(sizes), "truncated": False,
            "files": [{"path": below + name, "size": sizes[name]} for name in sorted(sizes)],
        })  # fmt: skip
    assert listed(live, session_id) == {
        below + name: size for below in ("", "to/here/", "to/there/") for name, size in sizes.items()
    }
    assert live.run(session_id, "print(open('to/here/a.txt').read())")["stdout"] == "one\n"
    assert live.get(f"/sessions/{session_id}/files/dir/b.bin").getvalue() == FILES["dir/b.bin"]
    many = zipped({f"many/{number}": b"x" for number in range(1500)})
    answer = extract(live, session_id, many).json()
    assert (answer["count"], len(answer["files"]), answer["truncated"]) == (1500, 1000, True)
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: live.get(f"/sessions/{session_id}/files").json()["total"] == 1500 + 3 * len(sizes))
    assert live.get(f"/sessions/{session_id}/files/many/1499").getvalue() == b"x"


@pytest.mark.bubblewrap
def test_what_can_not_be_unpacked_leaves_nothing_and_says_why(live: Api) -> None:
    session_id = live.session(resources={"disk": "1Gi"})
    live.upload(session_id, "old/file", b"old")
    for name, archive in BAD.items():
        body = error_of(extract(live, session_id, archive), 400, "InvalidParameter")
        assert body["error_detail"].startswith("file: "), name
    bomb = gzip.compress(tar(member("zeros", bytes(64 * 2**20))))
    error_of(extract(live, session_id, bomb), 413, "PayloadTooLarge")
    error_of(extract(live, session_id, zipped({f"f{number}": b"" for number in range(10_001)})), 413, "PayloadTooLarge")
    error_of(extract(live, session_id, tar(member("old"))), 409, "Conflict")
    error_of(extract(live, session_id, tar(member("file/x")), "old"), 409, "Conflict")
    error_of(extract(live, session_id, KINDS["tar"], "old/file"), 409, "Conflict")
    error_of(send_zeros(live, session_id, 100 * 2**20 + 1, "?extract=true"), 413, "PayloadTooLarge")
    assert listed(live, session_id) == {"old/file": 3}
    found = live.run(session_id, "import os\nprint(sorted(os.listdir()), os.listdir('old'))")["stdout"]
    assert found == "['old'] ['file']\n"


@pytest.mark.bubblewrap
def test_a_full_workspace_is_507_and_leaves_nothing(live: Api) -> None:
    session_id = live.session(resources={"disk": "1Gi"})
    live.run(
        session_id,
        "import os\nf = os.open('ballast', os.O_CREAT | os.O_WRONLY)\nos.posix_fallocate(f, 0, 1000 * 2**20)",
    )
    archive = gzip.compress(tar(member("noise", os.urandom(20 * 2**20))), 1)
    before = live.run(session_id, "import os\nprint(sorted(os.listdir()))")["stdout"]
    error_of(extract(live, session_id, archive), 507, "DiskFull")
    assert live.run(session_id, "import os\nprint(sorted(os.listdir()))")["stdout"] == before
