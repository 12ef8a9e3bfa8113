"""The workspace through the executor: regular files beneath it, whole or not at all, never anything outside."""

from __future__ import annotations

import os
import socket
import threading
import time
from urllib.parse import quote

import pytest

from runtime.drivers.executor_client.file_values import parse_files
from tests.executor.sandbox import Sandbox, UnixConnection


def listing(sandbox: Sandbox, query: str = "recursive=1") -> list[str]:
    return [entry["path"] for entry in sandbox.request("GET", f"/v1/files?{query}").json()["files"]]


def test_upload_download_list_delete(sandbox):
    data = os.urandom(3_000_000)
    assert sandbox.file("PUT", "a/b/dätä \\x.bin", data).json() == {"path": "a/b/dätä \\x.bin", "size": len(data)}
    got = sandbox.file("GET", "a/b/dätä \\x.bin")
    assert got.body == data and int(got.headers["X-File-Size"]) == len(data) and got.headers["ETag"]
    assert abs(float(got.headers["X-File-Mtime"]) - time.time()) < 60
    part = sandbox.file("GET", "a/b/dätä \\x.bin", query="?offset=1000&length=50")
    assert part.body == data[1000:1050] and int(part.headers["X-File-Size"]) == len(data)
    assert sandbox.file("GET", "a/b/dätä \\x.bin", query="?offset=99999999").body == b""
    assert listing(sandbox) == ["a/b/dätä \\x.bin"]
    assert sandbox.file("DELETE", "a/b/dätä \\x.bin").status == 204
    assert sandbox.file("DELETE", "a/b/dätä \\x.bin").status == 404
    assert listing(sandbox) == []


def test_a_chunked_upload(sandbox):
    pieces = [b"x" * 70_000, b"y", b"z" * 200_000]
    assert (
        sandbox.file("PUT", "c", iter(pieces), headers={"Transfer-Encoding": "chunked"}, chunked=True).json()["size"]
        == 270_001
    )
    assert sandbox.file("GET", "c").body == b"".join(pieces)


def test_listing_by_prefix_depth_and_limit(sandbox):
    for name in ("a.txt", "dir/b.txt", "dir/sub/c.txt", "dire.txt"):
        sandbox.file("PUT", name, b"")
    assert listing(sandbox, "") == ["a.txt", "dire.txt"]
    assert listing(sandbox, "prefix=dir/") == ["dir/b.txt"]
    assert sorted(listing(sandbox, "prefix=dir&recursive=1")) == ["dir/b.txt", "dir/sub/c.txt", "dire.txt"]
    cut = sandbox.request("GET", "/v1/files?recursive=1&limit=2").json()
    assert len(cut["files"]) == 2 and cut["truncated"] is True
    assert listing(sandbox, "prefix=nowhere/") == []


def test_what_is_uploaded_is_the_users_to_read_write_and_delete_and_the_reverse(sandbox):
    sandbox.file("PUT", "new/in.txt", b"1")
    code = (
        "import os\nopen('new/in.txt', 'a').write('2')\nos.rename('new/in.txt', 'new/out.txt')\n"
        "os.makedirs('own/deep')\nopen('own/deep/f', 'w').write('3')"
    )
    assert sandbox.run(code).outcome == "ok"
    assert sandbox.file("GET", "new/out.txt").body == b"12"
    assert sandbox.file("PUT", "own/deep/f", b"4").status == 200
    assert sandbox.file("DELETE", "own/deep/f").status == 204


def test_what_user_code_made_private_can_still_be_fetched_listed_replaced_and_deleted(sandbox):
    code = (
        "import os, tempfile\nos.umask(0o077)\nos.makedirs('p/q')\nopen('p/q/f', 'w').write('private')\n"
        "open('zero', 'w').write('0')\nos.chmod('zero', 0)\nos.mkdir('shut')\nopen('shut/f', 'w').write('shut')\nos.chmod('shut', 0)\n"
    )
    assert sandbox.run(code).outcome == "ok"
    assert sandbox.file("GET", "p/q/f").body == b"private"
    assert sandbox.file("GET", "zero").body == b"0"
    assert listing(sandbox) == ["zero", "p/q/f", "shut/f"]
    assert sandbox.file("PUT", "p/q/new", b"n").status == 200
    assert sandbox.file("DELETE", "shut/f").status == 204


BAD_PATHS = ["", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a/.", "%00", "a%2f..%2fb", "%ff", "x" * 1025]


@pytest.mark.parametrize("path", BAD_PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_paths_that_are_not_relative_and_plain_are_refused(shared, method, path):
    if (method, path) == ("GET", ""):
        pytest.skip("this is the listing")
    reply = shared.request(method, "/v1/files/" + path, b"x" if method == "PUT" else None)
    assert (reply.status, reply.json()["error"]) == (400, "bad_request")


LINKS = """
import os
os.makedirs('d'); open('d/real', 'w').write('inside')
os.symlink('/etc/passwd', 'absolute'); os.symlink('../etc/passwd', 'relative'); os.symlink('absolute', 'chained')
os.symlink('/etc', 'dir'); os.symlink('/proc/self/root', 'root'); os.symlink('d', 'inner'); os.symlink('d/real', 'file')
os.symlink('nowhere', 'dangling')
"""


def test_no_symlink_is_ever_followed(sandbox):
    sandbox.run(LINKS)
    for path in (
        "absolute",
        "relative",
        "chained",
        "dir/passwd",
        "root/etc/passwd",
        "inner/real",
        "file",
        "dangling",
        "d/../absolute",
    ):
        assert sandbox.file("GET", path).status in (404, 400), path
        assert sandbox.file("PUT", path, b"overwritten").status in (404, 400), path
        assert sandbox.file("DELETE", path).status in (404, 400), path
    assert listing(sandbox) == ["d/real"]
    assert sandbox.file("GET", "d/real").body == b"inside"


def test_a_path_that_flips_between_file_and_symlink_never_leaks(sandbox):
    code = (
        "import ctypes, os\nos.makedirs('d'); os.symlink('/etc', 'e'); open('d/passwd', 'w').write('inside')\n"
        "open('flip', 'w').write('inside'); os.symlink('/etc/passwd', 'link')\nprint('up', flush=True)\n"
        "rename = ctypes.CDLL(None).renameat2\nwhile True:\n"
        "    rename(-100, b'd', -100, b'e', 2)\n    rename(-100, b'flip', -100, b'link', 2)\n"
    )
    stream = sandbox.start(code, run_id="flip", timeout=60)
    stream.until(b"up")
    statuses = set()
    for _ in range(500):
        for path in ("d/passwd", "flip"):
            reply = sandbox.file("GET", path)
            statuses.add(reply.status)
            assert reply.status == 404 or reply.body in (b"inside", b"new")
        assert sandbox.file("PUT", "d/new", b"new").status in (200, 404)
    assert statuses == {200, 404}
    sandbox.request("POST", "/v1/runs/flip/cancel")
    stream.outcome()


def test_special_files_are_not_found_and_block_nobody(sandbox):
    code = "import os, socket\nos.mkfifo('fifo')\nsocket.socket(socket.AF_UNIX).bind('sock')\nos.mkdir('dir')"
    sandbox.run(code)
    for name in ("fifo", "sock", "dir"):
        begin = time.monotonic()
        assert sandbox.file("GET", name).status == 404
        assert sandbox.file("DELETE", name).status == 404
        assert time.monotonic() - begin < 5
    assert sandbox.file("PUT", "fifo", b"x").status == 404
    assert listing(sandbox) == []


def test_a_folder_or_a_file_in_the_way_is_a_conflict(sandbox):
    sandbox.file("PUT", "dir/file", b"x")
    for path in ("dir", "dir/file/below"):
        reply = sandbox.file("PUT", path, b"y")
        assert (reply.status, reply.json()["error"]) == (409, "conflict")
    assert sandbox.file("GET", "dir/file").body == b"x"


def test_a_full_workspace_is_507_and_leaves_nothing(make_sandbox):
    sandbox = make_sandbox(tmpfs_workspace=4 * 2**20)
    sandbox.file("PUT", "old", b"old")
    reply = sandbox.file("PUT", "old", b"x" * (8 * 2**20))
    assert (reply.status, reply.json()["error"]) == (507, "disk_full")
    assert sandbox.file("GET", "old").body == b"old"
    assert sandbox.run("import os\ndef handler(e): return os.listdir('.')").value == ["old"]


@pytest.mark.parametrize(
    "body", [b"Content-Length: 100\r\n\r\nshort", b"Transfer-Encoding: chunked\r\n\r\n10\r\nshort"]
)
def test_a_body_that_ends_early_leaves_nothing(sandbox, body):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sandbox.socket)
    sock.sendall(b"PUT /v1/files/f HTTP/1.1\r\n" + body)
    sock.shutdown(socket.SHUT_WR)
    assert sock.recv(1000) == b""
    assert sandbox.file("GET", "f").status == 404
    assert os.listdir(sandbox.workspace) == []


def test_readers_see_the_old_or_the_new_content_never_half(sandbox):
    old, new = b"o" * 500_000, b"n" * 700_000
    sandbox.file("PUT", "f", old)
    stop = threading.Event()
    seen = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(sandbox.file("GET", "f").body)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        sandbox.file("PUT", "f", new)
        sandbox.file("PUT", "f", old)
    stop.set()
    reader.join()
    assert seen <= {old, new}


def test_a_file_that_shrinks_or_grows_meanwhile_keeps_to_its_length_or_aborts(sandbox):
    sandbox.file("PUT", "f", b"a" * 8_000_000)
    connection = UnixConnection(sandbox.socket)
    connection.request("GET", "/v1/files/f")
    response = connection.getresponse()
    response.read(10)
    sandbox.run("open('f', 'r+').truncate(1000)")
    with pytest.raises(Exception, match="IncompleteRead"):
        response.read()
    sandbox.file("PUT", "g", b"a" * 8_000_000)
    connection = UnixConnection(sandbox.socket)
    connection.request("GET", "/v1/files/g")
    response = connection.getresponse()
    sandbox.run("open('g', 'a').write('b' * 1000)")
    assert response.read() == b"a" * 8_000_000


def test_a_client_that_leaves_or_stalls_does_not_keep_the_others_waiting(sandbox):
    stalled = []
    for _ in range(3):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(sandbox.socket)
        sock.sendall(b"PUT /v1/files/" + quote("s").encode() + b" HTTP/1.1\r\nContent-Length: 100\r\n\r\nx")
        stalled.append(sock)
    assert sandbox.file("PUT", "other", b"x").status == 200
    assert listing(sandbox) == ["other"]
    for sock in stalled:
        sock.close()


def test_artifacts_are_what_the_run_created_and_modified(sandbox):
    for name in ("same.txt", "changed.txt", "rewritten.txt"):
        sandbox.file("PUT", name, b"x")
    code = (
        "import os\nopen('changed.txt', 'a').write('y')\nos.makedirs('out')\nopen('out/new.csv', 'w').write('123')\n"
        "open('t', 'w').close()\nos.rename('t', 'rewritten.txt')\n"
    )
    ended = sandbox.run(code)
    assert sorted((a["path"], a["size"], a["change"]) for a in ended.artifacts) == [
        ("changed.txt", 2, "modified"),
        ("out/new.csv", 3, "created"),
        ("rewritten.txt", 0, "modified"),
    ]
    assert ended.artifacts_truncated is False
    assert sandbox.run("pass").artifacts == []


WRITERS = {
    "nobody else": "",
    "a thread": "import threading\nthreading.Thread(target=write, daemon=True).start()",
    "a child": "os.fork() or write()",
    "a child in a session of its own": "os.fork() or (os.setsid(), write())",
}


@pytest.mark.parametrize("who", WRITERS)
def test_what_a_run_left_is_listed_whoever_still_wrote_when_it_had_said_how_it_ended(sandbox, who):
    code = f"""
import itertools, os
def write():
    for number in itertools.count():
        open(f'{{number % 150}}', 'w').write('x' * (1 + number // 150))
{WRITERS[who]}
def handler(event):
    while {bool(WRITERS[who])} and not os.path.exists('20'):
        pass
    open('own', 'w').write('mine')
    return 1
"""
    for _ in range(5):
        ended = sandbox.run(code)
        assert ended.value == 1
        there = {item["path"]: item["size"] for item in sandbox.file("GET", "").json()["files"]}
        assert "own" in there
        assert {item["path"]: item["size"] for item in ended.artifacts} == there
        for path in there:
            sandbox.file("DELETE", path)


def test_artifacts_are_listed_to_a_bound(sandbox):
    ended = sandbox.run("for n in range(300): open(f'f{n}', 'w').close()")
    assert len(ended.artifacts) == 200 and ended.artifacts_truncated is True


def test_a_tree_far_too_deep_and_wide_is_scanned_to_a_bound(sandbox):
    code = "import os\nfor n in range(10500): open(f'w{n}', 'w').close()\nfor n in range(1500):\n    os.mkdir('d'); os.chdir('d')\n"
    begin = time.monotonic()
    ended = sandbox.run(code)
    assert ended.outcome == "ok" and ended.artifacts_truncated is True
    assert sandbox.request("GET", "/v1/files?recursive=1").json()["truncated"] is True
    assert time.monotonic() - begin < 20


def test_a_time_that_is_no_date_and_a_path_that_is_too_long_leave_the_list_readable(make_sandbox):
    sandbox = make_sandbox(tmpfs_workspace=16 * 2**20)  # which keeps any time
    code = (
        "import os\nfor name, at in (('early', -1), ('late', 2**40), ('now', 5)):\n"
        "    open(name, 'w').close()\n    os.utime(name, (0, at))\n"
        "for _ in range(20):\n    os.mkdir('d' * 250)\n    os.chdir('d' * 250)\nopen('deep', 'w').close()\n"
    )
    assert sandbox.run(code).outcome == "ok"
    page = sandbox.request("GET", "/v1/files?recursive=1").json()
    times = {"early": 0, "late": 253402300799, "now": 5}
    assert {entry["path"]: entry["mtime"] for entry in page["files"]} == times
    assert (page["truncated"], page["next"]) == (True, None)
    for name, at in times.items():
        assert float(sandbox.file("GET", name).headers["X-File-Mtime"]) == at
    assert len(parse_files(page).files) == 3
