"""The wire: once per id, results held until acknowledged, several readers, bounded memory, bad clients."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.executor.sandbox import spec

WAIT = "import os, time\nprint('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint('end')"


def test_a_run_starts_once_per_id_ever(shared):
    code = "open('count', 'a').write('x')\nprint('once')"
    first = shared.request("PUT", "/v1/runs/once", spec(code))
    assert first.status == 201 and first.json() == {"state": "running"}
    ended = shared.follow("once").outcome()
    again = shared.request("PUT", "/v1/runs/once", spec("different"))
    assert again.status == 200 and again.json() == {"state": "done"}
    assert shared.start(code, run_id="once").outcome().stdout == "once\n" == ended.stdout
    assert shared.request("DELETE", "/v1/runs/once").status == 204
    for method, target in (("PUT", "once"), ("GET", "once"), ("DELETE", "once"), ("POST", "once/cancel")):
        reply = shared.request(method, f"/v1/runs/{target}", spec(code) if method == "PUT" else None)
        assert (reply.status, reply.json()["error"]) == (410, "gone")
    assert shared.file("GET", "count").body == b"x"
    shared.file("DELETE", "count")


def test_a_running_run_cannot_be_acknowledged_and_an_unknown_one_is_not_found(sandbox):
    stream = sandbox.start(WAIT, run_id="r")
    stream.until(b"up")
    assert sandbox.request("DELETE", "/v1/runs/r").json()["error"] == "running"
    assert sandbox.request("PUT", "/v1/runs/r", spec(WAIT)).json() == {"state": "running"}
    for method, target in (("GET", "x"), ("DELETE", "x"), ("POST", "x/cancel")):
        assert sandbox.request(method, f"/v1/runs/{target}").status == 404
    sandbox.file("PUT", "go", b"")
    assert stream.outcome().outcome == "ok"


def test_several_readers_follow_from_offsets_of_their_own(sandbox):
    first = sandbox.start(WAIT, run_id="r")
    first.until(b"up\n")
    so_far = sandbox.request("GET", "/v1/runs/r").body.splitlines()
    assert json.loads(so_far[0])["t"] == "started" and len(so_far) >= 2
    assert all(json.loads(line)["t"] != "result" for line in so_far)
    second = sandbox.follow("r", "follow=1&stdout=1")
    third = sandbox.follow("r", "follow=1&stdout=3")
    second.until(b"p\n")
    sandbox.file("PUT", "go", b"")
    assert first.outcome().stdout == "up\nend\n"
    assert second.outcome().stdout == "p\nend\n"
    assert third.outcome().stdout == "end\n"
    assert sandbox.follow("r", "stdout=4").outcome().stdout == "nd\n"


def test_a_reader_that_leaves_does_not_end_the_run(sandbox):
    stream = sandbox.start(WAIT, run_id="r")
    stream.until(b"up")
    stream.connection.close()
    stream.response.close()
    sandbox.file("PUT", "go", b"")
    assert sandbox.follow("r").outcome().outcome == "ok"


def test_a_flood_is_drained_its_ends_are_kept_and_memory_stays_bounded(sandbox):
    code = "import os\nos.write(1, b'FIRST')\nblock = b'x' * 2**20\nfor _ in range(200): os.write(1, block)\nos.write(1, b'LAST')"
    assert sandbox.request("PUT", "/v1/runs/flood", spec(code)).status == 201
    ended = sandbox.follow("flood", "follow=1").outcome()
    assert ended.outcome == "ok"
    final = sandbox.follow("flood").outcome()
    assert final.result["stdout_bytes"] == 200 * 2**20 + 9
    assert (
        final.result["stdout_omitted"]
        == final.result["stdout_bytes"] - 2**20
        == final.result["stdout_bytes"] - len(final.stdout_bytes)
    )
    assert final.stdout.startswith("FIRSTx") and final.stdout.endswith("xLAST")
    gaps = [e["o"] for e in final.events if e["t"] == "stdout"]
    assert gaps == sorted(gaps)
    peak = next(
        line for line in Path(f"/proc/{sandbox.init}/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    assert int(peak.split()[1]) < 60_000


def test_a_reader_who_does_not_read_costs_nothing(sandbox):
    lazy = sandbox.start("import os\nfor _ in range(100): os.write(1, b'x' * 2**20)\nprint('end')", run_id="r")
    assert sandbox.follow("r", "follow=1&stdout=104857600").outcome().stdout == "end\n"
    assert lazy.outcome().stdout.endswith("end\n")


def test_results_are_held_until_acknowledged_and_then_new_runs_are_refused(sandbox):
    flood = "import os\nfor fd in (1, 2):\n    for _ in range(8): os.write(fd, b'x' * 2**18)"
    taken = 0
    while (stream := sandbox.start(flood, run_id=f"r{taken}")).status == 201:
        stream.outcome()
        taken += 1
        assert taken < 100
    assert stream.status == 503 and 25 <= taken <= 64
    assert sandbox.health()["held"] == taken
    assert sandbox.request("DELETE", "/v1/runs/r0").status == 204
    assert sandbox.start("pass", run_id="more").status == 201


BAD_SPECS = [
    "not json",
    "[]",
    "{}",
    spec("x", "cobol"),
    spec(""),
    spec("x", timeout=0),
    spec("x", timeout="30"),
    spec("x", timeout=True),
    spec("x", args="a"),
    spec("x", args=["\0"]),
    spec("x", env={"a=b": "c"}),
    spec("x", env={"a": 1}),
    spec("x", working_directory="/etc"),
    spec("x", working_directory="a/../../etc"),
    spec("x", stdin="%%%"),
    '{"language": "python", "code": "x", "timeout": NaN}',
    '{"language": "python", "code": "\\ud800"}',
    "[" * 100_000,
]


@pytest.mark.parametrize("body", BAD_SPECS)
def test_bad_requests_are_refused_before_anything_starts(shared, body):
    reply = shared.request("PUT", "/v1/runs/bad", body)
    assert (reply.status, reply.json()["error"]) == (400, "bad_request")
    assert shared.request("GET", "/v1/runs/bad").status == 404


RAW = [
    (b"\r\n\r\n", b"400"),
    (b"GET\r\n\r\n", b"400"),
    (b"GET /v1/health HTTP/9\r\n\r\n", b"400"),
    (b"GET /nowhere HTTP/1.1\r\n\r\n", b"404"),
    (b"PUT /v1/runs/a%2fb HTTP/1.1\r\n\r\n", b"404"),
    (b"PUT /v1/runs/x HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
    (b"PUT /v1/runs/x HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
    (b"PUT /v1/runs/x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
    (b"PUT /v1/files/x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
    (b"PUT /v1/files/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    (b"PATCH /v1/files/x HTTP/1.1\r\n\r\n", b"400"),
    (b"GET /v1/files/x?offset=-1 HTTP/1.1\r\n\r\n", b"400"),
    (b"GET /" + b"x" * 20_000, b"400"),
    (b"\xff" * 20_000, b"400"),
]


@pytest.mark.parametrize(("request_bytes", "status"), RAW)
def test_malformed_requests_get_an_answer_and_hurt_nobody(shared, request_bytes, status):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(shared.socket)
    sock.sendall(request_bytes)
    sock.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.split(b" ")[1] == status
    assert shared.health()["state"] == "ready"


def test_half_requests_do_not_keep_others_out(sandbox):
    half = []
    for _ in range(200):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(sandbox.socket)
        sock.sendall(b"PUT /v1/runs/x HTTP/1.1\r\n")
        half.append(sock)
    assert sandbox.run("def handler(e): return 1").value == 1
    for sock in half:
        sock.close()


def test_health_counts(sandbox):
    stream = sandbox.start(WAIT, run_id="r")
    stream.until(b"up")
    health = sandbox.health()
    assert (health["protocol"], health["slots"], health["active"], health["held"]) == (1, 4, 1, 0)
    sandbox.file("PUT", "go", b"")
    stream.outcome()
    assert (sandbox.health()["active"], sandbox.health()["held"]) == (0, 1)
