"""Files through the whole service, on each kind of runtime: the same bytes both ways, and nothing beside the workspace."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import ExitStack
from urllib.parse import quote

import pytest

from tests.api.client import eventually
from tests.api.test_storage import NAMES
from tests.e2e.service import Service
from tests.e2e.transfers import (
    MIB,
    Sending,
    digest,
    download,
    inside,
    listed,
    made,
    new_session,
    raw,
    run,
    upload,
)  # fmt: skip

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SIZES = [0, 1, 64 * 1024 + 1, 10 * MIB, 100 * MIB]
# How often paths must have changed under requests that name them, and how many of those there are.
FLIPS = int(os.environ.get("FILES_FLIPS", "2000"))
REQUESTS = max(400, FLIPS // 10)


def end(service: Service, session_id: str) -> None:
    """End the session, and wait until its files are in storage."""
    container = service.api("GET", f"/sessions/{session_id}").json()["container_id"]
    service.api("DELETE", f"/sessions/{session_id}")
    eventually(lambda: service.api("GET", f"/containers/{container}").status_code == 404 or
               service.api("GET", f"/containers/{container}").json()["status"] == "removed", 120)  # fmt: skip


def test_the_bytes_are_the_same_live_and_after_the_end(service: Service) -> None:
    session_id = new_session(service)
    for size in SIZES:
        for last in (False, True):
            path = f"sizes/{size}-{last}"
            assert upload(service, session_id, path, size, last) == (200, {"path": path, "size": size})
            assert download(service, session_id, path) == (200, digest(made(size)))
    code = "import hashlib\ndef handler(p):\n    d = open(p, 'rb').read()\n    return [len(d), hashlib.sha256(d).hexdigest()]"
    big = f"sizes/{SIZES[-1]}-True"
    assert tuple(run(service, session_id, code, event=big)["return_value"]) == digest(made(SIZES[-1]))
    end(service, session_id)
    for size in SIZES:
        assert download(service, session_id, f"sizes/{size}-True") == (200, digest(made(size)))


def test_sparse_files_names_of_any_script_and_a_thousand_small_ones(service: Service) -> None:
    session_id = new_session(service)
    run(
        service,
        session_id,
        "f = open('sparse', 'wb'); f.truncate(50 * 2**20); f.seek(30 * 2**20); f.write(b'x'); f.close()",
    )
    run(
        service,
        session_id,
        "import os\nos.mkdir('many')\nfor n in range(1000):\n    open(f'many/{n}', 'w').write(str(n))",
    )
    for name in NAMES:
        sending = Sending(service, session_id, name, len(name.encode()), last=True)
        assert sending.send([name.encode()]).finish() == (200, {"path": name, "size": len(name.encode())})
    expected = (
        {name: len(name.encode()) for name in NAMES}
        | {f"many/{n}": len(str(n)) for n in range(1000)}
        | {"sparse": 50 * MIB}
    )
    sparse = digest([bytes(30 * MIB), b"x", bytes(20 * MIB - 1)])
    for _ in ("live", "ended"):
        assert listed(service, session_id) == expected
        assert download(service, session_id, "sparse") == (200, sparse)
        for name in (*NAMES, "many/0", "many/999"):
            content = name.split("/")[1] if name.startswith("many") else name
            assert download(service, session_id, name) == (200, digest([content.encode()])), name
        end(service, session_id)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("query", ["", "?extract=true"])
def test_the_hundred_and_first_megabyte_is_413_and_leaves_nothing(service: Service, last: bool, query: str) -> None:
    session_id = new_session(service)
    upload(service, session_id, "big", 3)
    status, body = Sending(service, session_id, "big", 101 * MIB, last, query).send(made(101 * MIB)).finish()
    assert (status, body["error_code"]) == (413, "Sandbox.PayloadTooLarge")
    assert listed(service, session_id) == {"big": 3}
    assert inside(service, session_id) == ["big"]


def test_a_client_that_leaves_in_the_middle_leaves_nothing(service: Service) -> None:
    session_id = new_session(service)
    upload(service, session_id, "kept", 3)
    for last in (False, True):
        sending = Sending(service, session_id, "kept", 10 * MIB, last).send(made(5 * MIB))
        eventually(lambda: len(inside(service, session_id)) == 2)
        sending.cut()
        eventually(lambda: inside(service, session_id) == ["kept"])
    # In the middle of the path that comes last: half a path is no path.
    sending = Sending(service, session_id, "kept/and/more", 3, last=True).send(made(3))
    sending._connection.send(sending._tail[:-40])
    sending.cut()
    eventually(lambda: inside(service, session_id) == ["kept"])
    assert download(service, session_id, "kept") == (200, digest(made(3)))


# What leads upwards, in each spelling that some server somewhere has taken for it.
UP = [
    "..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..%2f", "..%5c", "..\\", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae",
    "%uff0e%uff0e", "\uff0e\uff0e",
    "..;", "..%00", "..%0d%0a", "....//", ".%09.",
]  # fmt: skip


def test_no_spelling_of_upwards_leads_anywhere(service: Service) -> None:
    session_id = new_session(service)
    upload(service, session_id, "keep", 3)
    base = f"/api/v1/sessions/{session_id}/files"
    for up in UP:
        up = up.encode().decode("latin-1")
        for path in ("/".join([up] * 8) + "/etc/passwd", f"{up}%2f{up}%2fetc%2fpasswd", f"keep/{up}/{up}/etc/passwd"):
            for method in ("GET", "DELETE"):
                status, body = raw(service, method, f"{base}/{path}")
                assert status in (400, 404) and b"root:" not in body, (method, path, status)
        status, body = raw(service, "GET", f"{base}?prefix={quote(up, safe='%')}/")
        assert status == 400 or (status == 200 and b'"total":0' in body.replace(b" ", b"")), (up, body)
    for path in ("..", "../x", "a/../../x", "/etc/x", "./x", "a//x", ".", "", "a\0b"):
        for last in (False, True):
            for query in ("", "?extract=true"):
                status, body = Sending(service, session_id, path, 3, last, query).send(made(3)).finish()
                assert (status, body["error_code"]) == (400, "Sandbox.InvalidParameter"), (path, last, query)
    assert inside(service, session_id) == ["keep"]


SPECIAL = """
import os, socket
os.mkdir('d'); open('d/real', 'w').write('inside'); os.link('d/real', 'hard')
links = {'absolute': '/etc/passwd', 'relative': '../etc/passwd', 'chained': 'absolute', 'dir': '/etc', 'root': '/proc/self/root',
         'inner': 'd', 'file': 'd/real', 'dangling': 'nowhere', 'null': '/dev/null', 'zero': '/dev/zero', 'fds': '/proc/self/fd'}
for name, target in links.items():
    os.symlink(target, name)
os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('sock')
refused = []
import stat
for name, kind in (('chr', stat.S_IFCHR), ('blk', stat.S_IFBLK)):
    try:
        os.mknod(name, kind | 0o666, os.makedev(1, 3))
    except OSError:
        refused.append(name)
for source in ('/etc/passwd', '/proc/1/environ', '/dev/null'):
    try:
        os.link(source, 'stolen')
    except OSError:
        refused.append(source)
def handler(e): return refused
"""
NOT_THERE = ["absolute", "relative", "chained", "dir", "dir/passwd", "root/etc/passwd", "inner/real", "file", "dangling", "null", "zero",
             "fds/0", "fifo", "sock", "chr", "blk", "stolen", "d"]  # fmt: skip


def test_links_pipes_and_devices_are_not_there_and_block_nobody(service: Service) -> None:
    session_id = new_session(service)
    refused = run(service, session_id, SPECIAL)["return_value"]
    assert refused == ["chr", "blk", "/etc/passwd", "/proc/1/environ", "/dev/null"]
    before = inside(service, session_id)
    begun = time.monotonic()
    for name in NOT_THERE:
        assert service.api("GET", f"/sessions/{session_id}/files/{name}").status_code == 404, name
        assert service.api("DELETE", f"/sessions/{session_id}/files/{name}").status_code == 404, name
        if name not in ("chr", "blk", "stolen", "dangling"):
            assert upload(service, session_id, name, 10, last=True)[0] in (404, 409), name
    assert time.monotonic() - begun < 60
    assert listed(service, session_id) == {"d/real": 6, "hard": 6}
    assert inside(service, session_id) == before
    assert download(service, session_id, "hard") == (200, digest([b"inside"]))
    end(service, session_id)
    assert listed(service, session_id) == {"d/real": 6, "hard": 6}


FLIP = """
import ctypes, os
os.makedirs('d', exist_ok=True); os.symlink('/etc', 'e'); open('d/passwd', 'w').write('inside')
open('flip', 'w').write('inside'); os.symlink('/etc/passwd', 'link')
os.mkdir('up'); os.symlink('/tmp', 'out')
rename = ctypes.CDLL(None).renameat2
flips = 0
while not os.path.exists('stop'):
    for _ in range(100):
        rename(-100, b'd', -100, b'e', 2)
        rename(-100, b'flip', -100, b'link', 2)
        rename(-100, b'up', -100, b'out', 2)
    flips += 300
def handler(e): return flips, sorted(os.listdir('/tmp'))
"""


@pytest.mark.timeout(600 + REQUESTS // 5)
def test_a_path_that_changes_under_our_feet_gives_nothing_away(service: Service) -> None:
    """Files and folders that trade places with symlinks all the time. FILES_FLIPS=100000 makes it long."""
    session_id = new_session(service)
    body = {"code": FLIP, "language": "python", "timeout": 3600}
    execution = service.api("POST", f"/sessions/{session_id}/execute", json=body).json()["execution_id"]
    eventually(lambda: {"flip", "link"} & set(listed(service, session_id)))
    statuses: dict[str, set[int]] = {"GET": set(), "PUT": set()}
    with service.session as client:
        for turn in range(REQUESTS):
            path = ("d/passwd", "e/passwd", "flip", "link")[turn % 4]
            answer = client.get(f"{service.url}/api/v1/sessions/{session_id}/files/{path}", timeout=60)
            statuses["GET"].add(answer.status_code)
            assert answer.status_code == 404 or answer.content == b"inside", (turn, path, answer.content[:200])
            if turn % 10 == 0:
                status, _ = upload(service, session_id, ("up/new", "out/new")[turn // 10 % 2], 3, last=turn % 20 == 0)
                statuses["PUT"].add(status)
    assert statuses["GET"] == {200, 404}
    assert 200 in statuses["PUT"] and statuses["PUT"] <= {200, 404, 409}
    begun = time.monotonic()
    assert service.api("GET", f"/sessions/{session_id}").status_code == 200
    assert time.monotonic() - begun < 5
    upload(service, session_id, "stop", 0)
    result = service.api("GET", f"/executions/{execution}/result?wait=60").json()
    flips, outside = result["return_value"]
    assert (result["status"], outside) == ("success", [])
    assert flips >= FLIPS
    print(f"{flips} changes under {REQUESTS} downloads and {REQUESTS // 10} uploads")
    assert set(inside(service, session_id)) <= {
        "d",
        "e",
        "d/passwd",
        "e/passwd",
        "flip",
        "link",
        "up",
        "out",
        "up/new",
        "out/new",
        "stop",
    }


def test_slow_clients_keep_nobody_waiting(service: Service) -> None:
    """Twenty downloads that nobody reads and ten uploads that do not go on, of one session."""
    session_id = new_session(service)
    upload(service, session_id, "big", 30 * MIB)
    with ExitStack() as stack:
        for number in range(20):
            sock = stack.enter_context(socket.create_connection(("localhost", service.port), timeout=60))
            target = f"/api/v1/sessions/{session_id}/files/big"
            sock.sendall(
                f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.token}\r\n\r\n".encode()
            )
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
            if number % 2:
                stack.callback(Sending(service, session_id, f"slow{number}", 10, last=True).send([b"x"]).cut)
        begun = time.monotonic()
        results: list[tuple[int, object]] = []
        quick = [
            threading.Thread(target=lambda n=n: results.append(upload(service, session_id, f"q{n}", 1000)))
            for n in range(4)
        ]
        for thread in quick:
            thread.start()
        for thread in quick:
            thread.join()
        assert [status for status, _ in results] == [200] * 4
        assert download(service, session_id, "q3") == (200, digest(made(1000)))
        assert run(
            service,
            session_id,
            "print(len(open('q0', 'rb').read()))",
        )["stdout"]
        assert time.monotonic() - begun < 20
