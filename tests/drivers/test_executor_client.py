"""Both clients against servers that misbehave, on real sockets."""

import asyncio
import base64
import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from runtime.drivers.errors import ExecutorProtocolError, ExecutorRefused, ExecutorUnavailable
from runtime.drivers.executor_client import AsyncExecutorClient, ExecutorClient, Output, Patience, Result, RunRequest

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
RESULT = (
    b'{"t": "result", "outcome": "ok", "exit_code": 0, "return_value": "1", "error": null, "duration_ms": 1, '
    b'"cpu_time_ms": 1, "peak_memory_mb": 1, "stdout_bytes": 0, "stderr_bytes": 0, "stdout_omitted": 0, '
    b'"stderr_omitted": 0, "artifacts": [], "artifacts_truncated": false}\n'
)
HELLO = RunRequest("python", "print('hello')")


def json_answer(status, value):
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


class Server:
    """Serves each connection with `behave(connection)` and remembers what was read by `request`."""

    def __init__(self, path, behave):
        self.path = path
        self.requests = []
        self._behave = behave
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._behave(connection, self)

    def read_request(self, connection):
        """Everything up to the end of the head, and of a body whose length was announced."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += connection.recv(65536)
        head, _, body = raw.partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += connection.recv(65536)
        self.requests.append((head, body))

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(behave):
        servers.append(Server(tmp_path / f"{len(servers)}.sock", behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answering(raw):
    def behave(connection, server):
        server.read_request(connection)
        connection.sendall(raw)

    return behave


def run_sync(path, deadline=5.0):
    return list(ExecutorClient(path).run("exec_1", HELLO, deadline))


def run_async(path, deadline=5.0):
    async def collect():
        return [event async for event in AsyncExecutorClient(path).run("exec_1", HELLO, deadline)]

    return asyncio.run(collect())


both = pytest.mark.parametrize("run", [run_sync, run_async])


@both
def test_a_run_to_its_result(serve, run):
    output = b'{"t": "stdout", "o": 0, "d": "%s"}\n' % base64.b64encode(b"hello\n")
    server = serve(answering(EVENTS + output + RESULT))
    events = run(server.path)
    assert events[0] == Output("stdout", 0, b"hello\n") and isinstance(events[1], Result)
    head, body = server.requests[0]
    assert head.startswith(b"PUT /v1/runs/exec_1?follow=1 HTTP/1.1\r\n") and json.loads(body)["language"] == "python"


@both
def test_a_server_that_drips_ends_at_the_total_deadline(serve, run):
    stop = threading.Event()

    def drip(connection, server):
        server.read_request(connection)
        for byte in EVENTS + b" " * 10_000:
            connection.sendall(bytes([byte]))
            if stop.wait(0.05):
                return

    server = serve(drip)
    begun = time.monotonic()
    with pytest.raises(ExecutorUnavailable):
        run(server.path, 0.4)
    assert 0.35 < time.monotonic() - begun < 1.5
    stop.set()


STARTED = b'{"t": "started", "at": 1}\n'


@both
def test_the_time_of_a_run_counts_from_its_start(serve, run):
    """It begins just in time, and has then more than it had until then."""
    silent = 0.4

    def begin(connection, server):
        server.read_request(connection)
        connection.sendall(EVENTS + STARTED)
        time.sleep(2 * silent)
        connection.sendall(RESULT)

    assert isinstance(run(serve(begin).path, Patience(silent, 10))[-1], Result)


@both
def test_who_tells_of_the_start_again_and_again_gains_nothing_by_it(serve, run):
    over = threading.Event()

    def begin(connection, server):
        server.read_request(connection)
        connection.sendall(EVENTS + STARTED)
        over.wait(10)

    server, patience = serve(begin), Patience(10, 0.4)
    begun = time.monotonic()
    with pytest.raises(ExecutorUnavailable):
        run(server.path, patience)
    over.set()
    assert time.monotonic() - begun < 5 and patience.run_is_late
    with pytest.raises(ExecutorUnavailable):  # a connection of its own
        run(server.path, patience)
    assert time.monotonic() - begun < 5


@both
def test_the_callers_own_limit_holds_whatever_the_run_does(serve, run):
    over = threading.Event()

    def begin(connection, server):
        server.read_request(connection)
        connection.sendall(EVENTS + STARTED)
        over.wait(10)

    begun, patience = time.monotonic(), Patience(10, 10, 0.4)
    with pytest.raises(ExecutorUnavailable):
        run(serve(begin).path, patience)
    over.set()
    assert time.monotonic() - begun < 5 and not patience.run_is_late


@both
def test_a_flood_ends_at_the_total_deadline(serve, run):
    def flood(connection, server):
        server.read_request(connection)
        connection.sendall(EVENTS)
        offset, piece = 0, b"x" * 30_000
        while True:
            connection.sendall(b'{"t": "stdout", "o": %d, "d": "%s"}\n' % (offset, base64.b64encode(piece)))
            offset += len(piece)

    server = serve(flood)
    begun = time.monotonic()
    with pytest.raises(ExecutorUnavailable):
        run(server.path, 0.3)
    assert time.monotonic() - begun < 1.5


@both
def test_a_server_that_never_reads_or_answers_ends_at_the_deadline(serve, run):
    stop = threading.Event()
    server = serve(lambda connection, server: stop.wait(10))
    with pytest.raises(ExecutorUnavailable):
        run(server.path, 0.2)
    stop.set()


@both
@pytest.mark.parametrize(
    "raw",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X" * 40_000, b"\0" * 40_000, EVENTS + b"garbage\n"],
    ids=["ssh", "giant head", "zeros", "garbage"],
)
def test_garbage_is_a_protocol_error(serve, run, raw):
    with pytest.raises(ExecutorProtocolError):
        run(serve(answering(raw)).path)


@both
@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200", EVENTS, EVENTS + RESULT[:50]])
def test_a_connection_that_breaks_is_unavailable(serve, run, raw):
    with pytest.raises(ExecutorUnavailable):
        run(serve(answering(raw)).path)


@both
def test_a_refusal(serve, run):
    with pytest.raises(ExecutorRefused) as caught:
        run(serve(answering(json_answer(429, {"error": "busy", "message": "full"}))).path)
    assert caught.value.code == "busy"


@both
def test_what_is_not_a_socket_is_not_connected_to(serve, run, tmp_path):
    server = serve(answering(EVENTS + RESULT))
    missing, link, file, folder = (tmp_path / name for name in ("missing", "link", "file", "folder"))
    link.symlink_to(server.path)
    file.touch()
    folder.mkdir()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (link, file, folder, fifo):
        with pytest.raises(ExecutorProtocolError):
            run(path)
    with pytest.raises(ExecutorUnavailable):
        run(missing)
    assert server.requests == []


@both
def test_nobody_listens(run, tmp_path):
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ExecutorUnavailable):
        run(path)


@both
def test_a_full_backlog_ends_at_the_deadline(run, tmp_path):
    path = tmp_path / "full.sock"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(path))
        begun = time.monotonic()
        with pytest.raises(ExecutorUnavailable):
            run(path, 0.2)
        assert 0.15 < time.monotonic() - begun < 1.5


def test_a_path_longer_than_a_socket_address(tmp_path):
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{descriptor}/s.sock")
        os.close(descriptor)
        listener.listen(1)
        with pytest.raises(ExecutorUnavailable):
            ExecutorClient(folder / "s.sock").health(0.1)
        assert listener.accept()


def test_commands(serve):
    server = serve(answering(json_answer(200, {"state": "done"})))
    client = ExecutorClient(server.path, request_id="req-1")
    assert client.start("e1", HELLO) == "done"
    client.cancel("e1")
    client.acknowledge("e1")

    async def likewise():
        other = AsyncExecutorClient(server.path, request_id="req-2")
        await other.cancel("e1")
        await other.acknowledge("e1")

    asyncio.run(likewise())
    lines = [head.split(b"\r\n")[0] for head, _ in server.requests]
    assert lines == [
        b"PUT /v1/runs/e1 HTTP/1.1",
        b"POST /v1/runs/e1/cancel HTTP/1.1",
        b"DELETE /v1/runs/e1 HTTP/1.1",
        b"POST /v1/runs/e1/cancel HTTP/1.1",
        b"DELETE /v1/runs/e1 HTTP/1.1",
    ]
    assert b"X-Request-ID: req-1" in server.requests[0][0] and b"X-Request-ID: req-2" in server.requests[4][0]


def test_attaching_without_following(serve):
    server = serve(answering(EVENTS + b'{"t": "stdout", "o": 9, "d": ""}\n'))
    assert list(ExecutorClient(server.path).attach("e1", stdout=9, follow=False)) == [Output("stdout", 9, b"")]
    assert server.requests[0][0].startswith(b"GET /v1/runs/e1?stdout=9 ")


def file_answer(body, length=None, size=None):
    head = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-File-Size: %d\r\nX-File-Mtime: 1.5\r\nETag: "x"\r\n\r\n'
    return head % (len(body) if length is None else length, len(body) if size is None else size) + body


def test_a_file_is_read_to_its_announced_end(serve):
    server = serve(answering(file_answer(b"a" * 300_000)))
    info, body = ExecutorClient(server.path).open_file("out.csv")
    assert info.size == 300_000 and b"".join(body) == b"a" * 300_000


def test_a_file_that_is_cut_or_grows_is_an_error(serve):
    _, body = ExecutorClient(serve(answering(file_answer(b"abc", length=5, size=5))).path).open_file("f")
    with pytest.raises(ExecutorUnavailable):
        list(body)
    _, body = ExecutorClient(serve(answering(file_answer(b"abcdef", length=5, size=5))).path).open_file("f")
    with pytest.raises(ExecutorProtocolError):
        list(body)


def test_a_missing_file(serve):
    server = serve(answering(json_answer(404, {"error": "not_found", "message": "no such file"})))
    with pytest.raises(ExecutorRefused) as caught:
        ExecutorClient(server.path).open_file("f")
    assert caught.value.status == 404


def test_an_upload_that_fails_at_our_end_is_cut_without_its_last_chunk(serve):
    seen, done = [], threading.Event()

    def swallow(connection, server):
        while data := connection.recv(65536):
            seen.append(data)
        done.set()

    def pieces():
        yield b"first"
        raise OSError("the client went away")

    server = serve(swallow)
    with pytest.raises(OSError, match="the client went away"):
        ExecutorClient(server.path).put_file("f", pieces())
    assert done.wait(5)
    raw = b"".join(seen)
    assert b"Transfer-Encoding: chunked" in raw and raw.endswith(b"5\r\nfirst\r\n")


def test_an_early_refusal_ends_the_upload(serve):
    def full(connection, server):
        connection.recv(65536)
        connection.sendall(json_answer(507, {"error": "disk_full", "message": "no space"}))

    sent = []

    def pieces():
        for _ in range(10_000):
            sent.append(1)
            yield b"x" * 65536

    with pytest.raises(ExecutorRefused) as caught:
        ExecutorClient(serve(full).path).put_file("f", pieces())
    assert caught.value.code == "disk_full" and len(sent) < 10_000


def test_a_whole_upload(serve):
    def keep(connection, server):
        raw = b""
        while not raw.endswith(b"\r\n0\r\n\r\n"):
            raw += connection.recv(65536)
        server.requests.append(raw)
        connection.sendall(json_answer(200, {"path": "f", "size": 6}))

    server = serve(keep)
    assert ExecutorClient(server.path).put_file("f", [b"abc", b"", b"def"]) == 6
    assert server.requests[0].endswith(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")


def test_a_thousand_runs_in_one_loop(tmp_path):
    """All of them are under way at once: none is answered before the last has arrived."""
    count, path = 1000, tmp_path / "many.sock"

    async def scenario():
        arrived, everyone = [], asyncio.Event()

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            arrived.append(1)
            if len(arrived) == count:
                everyone.set()
            await everyone.wait()
            writer.write(EVENTS + RESULT)
            await writer.drain()
            writer.close()

        async def one(number):
            client = AsyncExecutorClient(path)
            return [event async for event in client.run(f"e{number}", HELLO, 30)][-1].outcome

        async with await asyncio.start_unix_server(serve, path, backlog=64):
            return await asyncio.gather(*(one(number) for number in range(count)))

    assert asyncio.run(scenario()) == ["ok"] * count


def test_whoever_listens_must_be_in_the_sandbox(serve):
    """The servers here run in the cgroup of this process."""
    server = serve(answering(json_answer(200, {"state": "done"})))
    own = Path("/proc/self/cgroup").read_text().splitlines()[0]
    ExecutorClient(server.path, members=("sbx-1", own)).cancel("e1")
    asyncio.run(AsyncExecutorClient(server.path, members=(own,)).cancel("e1"))
    served = len(server.requests)
    with pytest.raises(ExecutorProtocolError):
        ExecutorClient(server.path, members=("sbx-1", "f" * 64)).cancel("e1")
    with pytest.raises(ExecutorProtocolError):
        asyncio.run(AsyncExecutorClient(server.path, members=("sbx-1",)).cancel("e1"))
    assert served == 2 and all(b"cancel" in head for head, _ in server.requests[:2]) and len(server.requests) == 2
