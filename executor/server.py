"""HTTP over the Unix socket: one request a connection, all of it without blocking."""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Callable
from functools import partial

from executor import PROTOCOL, VERSION, wire
from executor.attest import attest
from executor.cli import Options
from executor.linux import MAX_MESSAGE, listen_unix, peer_pid
from executor.log import log
from executor.loop import READ, WRITE, Loop, Timer
from executor.runs import Run, parse_spec
from executor.streams import KEPT
from executor.supervisor import TELL_AFTER, Supervisor
from executor.wire import Fault, Request

MAX_BODY = 16 * 1024 * 1024
MAX_CONNECTIONS = 256
REQUEST_PATIENCE = 15.0  # seconds for the whole of a request to arrive
CLIENT_PATIENCE = 60.0  # seconds without a byte taken from what we have to say
HAND_OVER_PATIENCE = 5.0  # seconds in which the file helper has to take a connection
ASK_AGAIN = 0.01
LINGER = 2.0  # seconds in which an unread rest of a request is thrown away
OUT_BUFFER = 128 * 1024
FLOOD_PAUSE = 0.05  # seconds between two full buffers, past what is kept: a flood is sampled rather than relayed
RUN_PATH = re.compile(r"/v1/runs/([A-Za-z0-9_.-]{1,128})(/cancel)?")


class Server:
    def __init__(self, loop: Loop, options: Options, supervisor: Supervisor) -> None:
        self.loop, self.options, self.supervisor = loop, options, supervisor
        self.connections: set[Connection] = set()
        self._listener = listen_unix(options.socket)
        loop.watch(self._listener, READ, self._accept)

    def _accept(self, _mask: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        pid = peer_pid(sock)
        if pid != 0 and not self.options.allow_any_peer:
            log("warning", "peer_refused", peer=pid)
            sock.close()
            return
        self.connections.add(Connection(self, sock))
        if len(self.connections) >= MAX_CONNECTIONS:
            self.loop.unwatch(self._listener)

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.loop.watch(self._listener, READ, self._accept)

    def health(self) -> bytes:
        supervisor = self.supervisor
        return wire.json_answer(
            200,
            {
                "protocol": PROTOCOL,
                "version": VERSION,
                "state": "ready" if supervisor.ready else "starting",
                "slots": len(supervisor.slots),
                "active": supervisor.active,
                "held": sum(run.state == "done" for run in supervisor.runs.values()),
                "python": ".".join(map(str, sys.version_info[:3])),
                "node": supervisor.node,
                "preloaded": supervisor.preloaded,
                "preload_errors": supervisor.preload_errors,
                "attestation": attest(self.options.user_uid),
            },
        )


class Connection:
    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server, self._loop, self._sock = server, server.loop, sock
        sock.setblocking(False)
        self._in = bytearray()
        self._out = bytearray()
        self._request: Request | None = None
        self._follower: Follower | None = None
        self._answered = False
        self._complete = False  # the whole request has been read
        self._timer = self._loop.later(REQUEST_PATIENCE, self.close)
        self._later: Timer | None = None
        self._loop.watch(sock, READ, self._ready)

    def close(self) -> None:
        self._timer.cancel()
        if self._later is not None:
            self._later.cancel()
        if self._follower is not None:
            self._follower.leave()
        self._loop.unwatch(self._sock)
        self._sock.close()
        self._server.forget(self)

    def _ready(self, mask: int) -> None:
        if mask & READ and not self._receive():
            return
        if mask & WRITE:
            self.flush()

    # -- the request ------------------------------------------------------------------------------------------------

    def _receive(self) -> bool:
        """Reads once. False when the connection is closed or handed over."""
        try:
            data = self._sock.recv(64 * 1024)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        if self._answered:
            return True  # more than we asked for: thrown away
        self._in += data
        try:
            return self._parse()
        except Fault as fault:
            self._answer(wire.error_answer(fault.code, fault.message))
        except Exception as error:
            log("error", "request_failed", error=repr(error))
            self._answer(wire.error_answer("internal", "the executor failed"))
        return True

    def _parse(self) -> bool:
        if self._request is None:
            end = self._in.find(b"\r\n\r\n")
            if end > wire.MAX_HEAD or (end < 0 and len(self._in) > wire.MAX_HEAD):
                raise Fault("bad_request", "the head of the request is too large")
            if end < 0:
                return True
            request = wire.parse_head(bytes(self._in[:end]))
            if request.path.startswith("/v1/files"):
                self._hand_over(time.monotonic() + HAND_OVER_PATIENCE)
                return False
            if request.chunked:
                raise Fault("bad_request", "a run's request needs Content-Length")
            if (request.content_length or 0) > MAX_BODY:
                raise Fault("too_large", f"a request may have {MAX_BODY} bytes")
            self._request = request
            del self._in[: end + 4]
        if len(self._in) >= (self._request.content_length or 0):
            self._route(self._request, bytes(self._in[: self._request.content_length or 0]))
        return True

    def _hand_over(self, until: float) -> None:
        """To the file helper, as soon as it takes it: many may come at once, and one that died is being replaced."""
        begun = bytes(self._in)
        if len(begun) > MAX_MESSAGE + wire.MAX_HEAD:
            raise Fault("bad_request", "the head of the request is too large")
        if self._server.supervisor.hand_over(self._sock.fileno(), begun):
            self.close()
        elif time.monotonic() < until:
            self._loop.unwatch(self._sock)
            self._timer.cancel()
            self._timer = self._loop.later(ASK_AGAIN, partial(self._hand_over, until))
        else:
            self._answer(wire.error_answer("busy", "the file helper has too much to do"))

    def _route(self, request: Request, body: bytes) -> None:
        self._complete = True
        log("debug", "request", method=request.method, path=request.path, request_id=request.request_id)
        if request.path == "/v1/health" and request.method == "GET":
            return self._answer(self._server.health())
        match = RUN_PATH.fullmatch(request.path)
        if match is None:
            raise Fault("not_found", "no such path")
        run_id, verb = match.groups()
        supervisor = self._server.supervisor
        if verb and request.method == "POST":
            run = supervisor.find(run_id)
            done = run.state == "done"
            supervisor.cancel(run)
            self._answer(wire.json_answer(200 if done else 202, _state(run)))
        elif verb:
            raise Fault("bad_request", "cancel is a POST")
        elif request.method == "PUT":
            self._put(request, run_id, body)
        elif request.method == "GET":
            self._follow(request, 200, supervisor.find(run_id), live=request.flag("follow"))
        elif request.method == "DELETE":
            supervisor.acknowledge(supervisor.find(run_id))
            self._answer(wire.head(204, {}))
        else:
            raise Fault("bad_request", "no such method")

    def _put(self, request: Request, run_id: str, body: bytes) -> None:
        supervisor = self._server.supervisor
        status = 200
        try:
            run = supervisor.find(run_id)
        except Fault as fault:
            if fault.code != "not_found":
                raise
            spec = parse_spec(body)
            spec["request_id"] = spec["request_id"] or request.request_id
            run = supervisor.start(run_id, spec)
            status = 201
        if request.flag("follow"):
            self._follow(request, status, run, live=True)
        else:
            self._answer(wire.json_answer(status, _state(run)))

    # -- the answer -------------------------------------------------------------------------------------------------

    def _follow(self, request: Request, status: int, run: Run, live: bool) -> None:
        offsets = {name: request.number(name, 0) for name in ("stdout", "stderr")}
        self._follower = Follower(self._loop, run, offsets, live, self.flush)
        # The head of a run that has yet to start goes out with the end of a short one: each packet wakes the other side.
        self._answer(wire.head(status, {"Content-Type": "application/x-ndjson"}), TELL_AFTER if status == 201 else 0)

    def _answer(self, data: bytes, pause: float = 0) -> None:
        self._answered = True
        self._out += data
        self._in.clear()
        self._loop.watch(self._sock, READ, self._ready)
        self._rearm()
        if pause:
            self._later = self._loop.later(pause, self.flush)
        else:
            self.flush()

    def _rearm(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.later(CLIENT_PATIENCE, self._impatient)

    def _impatient(self) -> None:
        not_begun = self._follower is not None and not self._follower.told
        if self._out and not not_begun:
            self.close()
        else:
            self._rearm()

    def flush(self) -> None:
        """Sends what there is, for as long as the client takes it; ends the connection when all is said."""
        while True:
            if self._follower is not None:
                self._follower.fill(self._out)
            if not self._out:
                break
            try:
                sent = self._sock.send(self._out)
            except BlockingIOError:
                self._loop.watch(self._sock, READ | WRITE, self._ready)
                return
            except OSError:
                return self.close()
            del self._out[:sent]
            self._rearm()
        if self._follower is None or self._follower.over:
            self._finish()
        else:
            self._loop.watch(self._sock, READ, self._ready)

    def _finish(self) -> None:
        """Closes; where a request was refused half-way, only after the client had time to read why."""
        if self._complete:
            return self.close()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return self.close()
        self._timer.cancel()
        self._timer = self._loop.later(LINGER, self.close)
        self._loop.watch(self._sock, READ, self._discard)

    def _discard(self, _mask: int) -> None:
        self._receive()


def _state(run: Run) -> dict[str, str]:
    return {"state": "done" if run.state == "done" else "running"}


class Follower:
    """One reader of a run's events, at offsets of its own; nothing is queued for it beyond one small buffer."""

    def __init__(self, loop: Loop, run: Run, offsets: dict[str, int], live: bool, wake: Callable[[], None]) -> None:
        self._loop, self._run, self._offsets, self._live, self._wake = loop, run, offsets, live, wake
        self.told = False
        self._pause: Timer | None = None
        self.over = False
        run.watchers.add(wake)

    def leave(self) -> None:
        self._run.watchers.discard(self._wake)
        if self._pause is not None:
            self._pause.cancel()

    def _resume(self) -> None:
        self._pause = None
        self._wake()

    def fill(self, out: bytearray) -> None:
        run = self._run
        if self.over or (not run.started_at and run.state != "done"):
            self.over = self.over or not self._live
            return
        if not self.told:
            self.told = True
            if run.started_at:
                out += run.started_line()
        for name in self._offsets:
            while len(out) < OUT_BUFFER and not (self._pause and self._offsets[name] >= KEPT and run.state != "done"):
                self._offsets[name], line = run.output_line(name, self._offsets[name])
                if not line:
                    break
                out += line
        if len(out) >= OUT_BUFFER:
            if self._pause is None and max(self._offsets.values()) >= KEPT:
                self._pause = self._loop.later(FLOOD_PAUSE, self._resume)
            return
        if run.state == "done":
            out += run.result_line
            self.over = True
        elif not self._live:
            self.over = True
