"""Uploads whose path comes last, slow clients, pages of a list: what the file helper does beyond one file at a known path."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.executor.sandbox import USER, Sandbox, UnixConnection


def put_last(sandbox: Sandbox, path: str | None, pieces: list[bytes], query: str = "") -> tuple[int, dict]:
    """`PUT /v1/files`, the path in the trailer: status and answer."""
    connection = UnixConnection(sandbox.socket)
    connection.putrequest("PUT", "/v1/files" + query)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for piece in pieces:
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    trailer = b"" if path is None else f"X-Path: {quote(path)}\r\n".encode()
    connection.send(b"0\r\n" + trailer + b"\r\n")
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def everything(sandbox: Sandbox) -> list[str]:
    return sorted(str(path.relative_to(sandbox.workspace)) for path in sandbox.workspace.rglob("*"))


def test_the_path_may_come_last(sandbox):
    assert put_last(sandbox, "a/dätä \n", [b"x" * 70_000, b"y"]) == (200, {"path": "a/dätä \n", "size": 70_001})
    assert sandbox.file("GET", "a/dätä \n").body == b"x" * 70_000 + b"y"
    assert put_last(sandbox, "a/empty", []) == (200, {"path": "a/empty", "size": 0})
    assert everything(sandbox) == ["a", "a/dätä \n", "a/empty"]
    assert sandbox.run("open('a/empty', 'a').write('1')\nimport os\nos.remove('a/dätä \\n')").outcome == "ok"


@pytest.mark.parametrize("path", [None, "", "/etc/passwd", "..", "a/../b", "a//b", "%00", "x" * 1025, "x" * 256])
def test_a_bad_path_that_comes_last_leaves_nothing(sandbox, path):
    status, answer = put_last(sandbox, "\0" if path == "%00" else path, [b"x" * 100_000])
    assert (status, answer["error"]) == (400, "bad_request")
    assert everything(sandbox) == []


def test_what_stands_in_the_way_of_a_path_that_comes_last(sandbox):
    sandbox.run(
        "import os\nos.mkdir('dir')\nopen('file', 'w').write('x')\nos.symlink('/etc', 'link')\nos.mkfifo('fifo')"
    )
    before = everything(sandbox)
    for path, code in (
        ("dir", "conflict"),
        ("file/below", "conflict"),
        ("link/passwd", "not_found"),
        ("fifo", "not_found"),
    ):
        assert put_last(sandbox, path, [b"x"])[1]["error"] == code, path
    assert everything(sandbox) == before


def test_a_full_workspace_leaves_nothing(make_sandbox):
    sandbox = make_sandbox(tmpfs_workspace=4 * 2**20)
    assert sandbox.file("PUT", "big", b"x" * (8 * 2**20)).json()["error"] == "disk_full"
    assert sandbox.run("import os\ndef handler(e): return os.listdir('.')").value == []


def begin_upload(sandbox: Sandbox, head: str = "/v1/files", sent: bytes = b"5\r\nhello\r\n") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sandbox.socket)
    sock.sendall(f"PUT {head} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + sent)
    return sock


def wait_for(condition, seconds: float = 20):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.01)
    return value


def test_a_connection_that_is_cut_leaves_nothing(sandbox):
    sock = begin_upload(sandbox)
    wait_for(lambda: everything(sandbox))
    sock.close()
    wait_for(lambda: not everything(sandbox))


def test_what_a_killed_helper_left_is_swept_and_what_is_the_users_is_not(sandbox):
    sandbox.run("open('.sbx-upload-mine', 'w').write('x')")
    upload = begin_upload(sandbox)
    wait_for(lambda: len(everything(sandbox)) == 2)
    for pid in sandbox.processes(USER):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: everything(sandbox) == [".sbx-upload-mine"])
    upload.close()
    assert sandbox.file("PUT", "next", b"x").status == 200


def threads_of(sandbox: Sandbox) -> int:
    return max(len(os.listdir(f"/proc/{pid}/task")) for pid in sandbox.processes(USER))


def test_forty_slow_clients_keep_nobody_waiting(sandbox):
    """Ten times as many as there are threads at rest, half of them up and half of them down."""
    sandbox.file("PUT", "big", b"x" * 4_000_000)
    resting = threads_of(sandbox)
    with ExitStack() as stack:
        for number in range(20):
            stack.callback(begin_upload(sandbox, f"/v1/files/slow{number}").close)
            reader = socket.socket(socket.AF_UNIX)
            stack.callback(reader.close)
            reader.connect(sandbox.socket)
            reader.sendall(b"GET /v1/files/big HTTP/1.1\r\n\r\n")
            assert reader.recv(10)
        begun = time.monotonic()
        assert sandbox.file("PUT", "quick", b"1").status == 200
        assert sandbox.file("GET", "quick").body == b"1"
        assert sandbox.request("GET", "/v1/files").json()["files"][-1]["path"] == "quick"
        assert sandbox.run("print(open('quick').read())").stdout == "1\n"
        assert time.monotonic() - begun < 10
        assert threads_of(sandbox) > resting
    wait_for(lambda: threads_of(sandbox) <= resting, 40)


def test_more_slow_clients_than_there_may_be_threads_are_served_in_turn(sandbox):
    with ExitStack() as stack:
        slow = [begin_upload(sandbox, f"/v1/files/{number}") for number in range(70)]
        for sock in slow:
            stack.callback(sock.close)
        for sock in slow:
            sock.sendall(b"0\r\n\r\n")
        for number, sock in enumerate(slow):
            sock.settimeout(30)
            assert sock.recv(100).startswith(b"HTTP/1.1 200"), number
    assert sandbox.file("GET", "69").body == b"hello"


def pages(sandbox: Sandbox, limit: int, query: str = "recursive=1") -> list[str]:
    found, after = [], ""
    while True:
        answer = sandbox.request("GET", f"/v1/files?{query}&limit={limit}&after={quote(after)}").json()
        found += [entry["path"] for entry in answer["files"]]
        assert answer["truncated"] is (answer["next"] is not None)
        if answer["next"] is None:
            return found
        after = answer["next"]


TREE = """
import os
for path in ('b', 'a.txt', 'a/b/c', 'a/b.txt', 'a/z', 'a b/x', 'c/d/e/f', 'c/d/e/g', 'c/d.d/h', 'é/ü', 'z'):
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    open(path, 'w').close()
"""


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_hold_every_file_once(sandbox, limit):
    sandbox.run(TREE)
    whole = pages(sandbox, 100)
    assert len(set(whole)) == 11
    assert pages(sandbox, limit) == whole
    assert pages(sandbox, limit, "recursive=1&prefix=c/") == ["c/d/e/f", "c/d/e/g", "c/d.d/h"]
    assert pages(sandbox, limit, "prefix=a") == ["a.txt"]


def test_a_page_goes_on_behind_a_file_that_is_gone_or_has_become_a_folder(sandbox):
    sandbox.run(TREE)
    after = lambda path: [  # noqa: E731
        entry["path"] for entry in sandbox.request("GET", f"/v1/files?recursive=1&after={quote(path)}").json()["files"]
    ]
    whole = pages(sandbox, 100)
    sandbox.run(
        "import os\nos.remove('c/d/e/f'); os.remove('a.txt'); os.mkdir('a.txt'); open('a.txt/new', 'w').close()"
    )
    assert after("c/d/e/f") == whole[whole.index("c/d/e/f") + 1 :]
    assert after("a.txt") == [
        "b",
        "z",
        "a/b.txt",
        "a/z",
        "a/b/c",
        "a b/x",
        "a.txt/new",
        *whole[whole.index("c/d/e/g") :],
    ]


def test_what_lies_too_deep_is_left_out_and_the_rest_is_not(sandbox):
    sandbox.run(
        "import os\nopen('first', 'w')\nos.makedirs('a/' * 70)\nopen('a/' * 70 + 'deep', 'w')\nos.mkdir('z')\nopen('z/last', 'w')"
    )
    answer = sandbox.request("GET", "/v1/files?recursive=1").json()
    assert ([entry["path"] for entry in answer["files"]], answer["truncated"], answer["next"]) == (
        ["first", "z/last"],
        True,
        None,
    )


def test_twelve_thousand_files_are_two_pages(sandbox):
    sandbox.run("for n in range(12000): open(f'f{n}', 'w').close()", timeout=60)
    assert len(set(pages(sandbox, 10_000))) == 12_000


def test_long_names_are_cut_into_pages_that_a_client_will_read(sandbox):
    for folder in range(3):
        path = Path(sandbox.workspace, *(f"{folder}" + "\x01" * 200 for _ in range(4)))
        path.mkdir(parents=True)
        for number in range(1000):
            (path / f"{number}".ljust(190, "\x01")).touch()
    answer = sandbox.request("GET", "/v1/files?recursive=1")
    assert answer.json()["next"] and len(answer.body) < 16 * 2**20
    assert len(set(pages(sandbox, 10_000))) == 3000


def test_many_uploads_at_once(sandbox):
    def upload(number: int) -> None:
        results.append(put_last(sandbox, f"d/{number}", [bytes([number]) * 50_000])[0])

    results: list[int] = []
    threads = [threading.Thread(target=upload, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [200] * 30
    for number in range(30):
        assert sandbox.file("GET", f"d/{number}").body == bytes([number]) * 50_000


def test_names_that_belong_to_uploads_under_way_are_refused(sandbox):
    for status, answer in (
        put_last(sandbox, ".sbx-upload-mine", [b"x"]),
        put_last(sandbox, ".sbx-upload-mine/below", [b"x"]),
        ((reply := sandbox.file("PUT", ".sbx-upload-mine", b"x")).status, reply.json()),
    ):
        assert (status, answer["error"]) == (400, "bad_request") and "reserved" in answer["message"]
    assert everything(sandbox) == []
    assert sandbox.file("PUT", "below/.sbx-upload-mine", b"x").status == 200
