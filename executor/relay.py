"""The way out, where a template allows hosts: a loopback port of the sandbox, carried to the proxy outside by whoever calls in.

Nothing in here dials out. The host holds one connection to `egress.sock`, on which it is told with a byte of each client that waits at
the port; it then calls in once more for each, and those two are joined. Bytes are passed on unread: what may be reached is decided outside.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from executor.cli import Options
from executor.linux import keep_capabilities, listen_unix, peer_pid, send_message
from executor.log import log
from executor.loop import READ, WRITE, Loop, Timer

ADDRESS = "127.0.0.1"
SOCKET = "egress.sock"  # beside the executor's own
CONTROL, DATA, CALLER = b"C", b"D", b"+"
MOST = 64  # clients served or waiting at a time; the rest stay in the kernel's queue
PIECE = 64 * 1024
LINGER = 5.0  # seconds that a client may go on sending after the end of the answer
PATIENCE = 10.0  # seconds that a client waits for somebody to call in for it
UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
)
WORDS = b"The egress proxy of this sandbox does not answer.\n"


def proxy_variables(port: int) -> dict[str, str]:
    """What tells programs where the proxy is; nothing where there is none (port 0)."""
    if not port:
        return {}
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    local = dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1,::1")
    return {**dict.fromkeys(names, f"http://{ADDRESS}:{port}"), **local, "NODE_USE_ENV_PROXY": "1"}


def serve(options: Options, sock: socket.socket) -> None:
    """The life of this helper. `sock` is PID 1's end: it is told once that the port is open, and its end is ours."""
    loop = Loop()
    relay = Relay(loop, options)
    keep_capabilities(0)
    send_message(sock, {"ready": True})
    loop.watch(sock, READ, lambda _mask: loop.stop())
    relay.open()
    loop.run()


class Relay:
    def __init__(self, loop: Loop, options: Options) -> None:
        self.loop = loop
        self._any_peer = options.allow_any_peer
        self._clients = socket.create_server((ADDRESS, options.egress_port), backlog=128)
        self._callers = listen_unix(os.path.join(os.path.dirname(options.socket), SOCKET))
        self._control: socket.socket | None = None
        self._waiting: deque[Client] = deque()
        self._count = 0

    def open(self) -> None:
        for listener, accepted in ((self._clients, self._client), (self._callers, self._caller)):
            listener.setblocking(False)
            self.loop.watch(listener, READ, partial(self._accept, listener, accepted))

    def _accept(self, listener: socket.socket, accepted: Callable[[socket.socket], None], _mask: int) -> None:
        with suppress(OSError):
            sock, _ = listener.accept()
            sock.setblocking(False)
            accepted(sock)

    # -- clients ----------------------------------------------------------------------------------------------------

    def _client(self, sock: socket.socket) -> None:
        self._count += 1
        if self._count >= MOST:
            self.loop.unwatch(self._clients)
        client = Client(sock)
        client.timer = self.loop.later(PATIENCE, partial(self._refuse, client))
        self._waiting.append(client)
        self._tell(CALLER)

    def _refuse(self, client: Client) -> None:
        """Nobody called in for it."""
        self._waiting.remove(client)
        with suppress(OSError):
            client.sock.recv(PIECE)  # unread bytes would turn the close into a reset, and the answer be lost
        with suppress(OSError):
            client.sock.send(UNAVAILABLE % (len(WORDS), WORDS))
        client.sock.close()
        self.left()

    def left(self) -> None:
        self._count -= 1
        self.loop.watch(self._clients, READ, partial(self._accept, self._clients, self._client))

    # -- callers from outside ---------------------------------------------------------------------------------------

    def _caller(self, sock: socket.socket) -> None:
        if peer_pid(sock) != 0 and not self._any_peer:
            log("warning", "peer_refused", peer=peer_pid(sock))
            sock.close()
            return
        self.loop.watch(sock, READ, partial(self._introduced, sock))

    def _introduced(self, sock: socket.socket, _mask: int) -> None:
        try:
            word = sock.recv(1)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        self.loop.unwatch(sock)
        if word == CONTROL:
            self._take_control(sock)
        elif word == DATA and self._waiting:
            client = self._waiting.popleft()
            client.timer.cancel()
            Pair(self, client.sock, sock)
        else:
            sock.close()

    def _take_control(self, sock: socket.socket) -> None:
        """The newest one has it: an older one's holder may be gone without our having seen it."""
        if self._control is not None:
            self._lose_control(self._control)
        self._control = sock
        self.loop.watch(sock, READ, lambda _mask: self._lose_control(sock))
        self._tell(CALLER * len(self._waiting))

    def _tell(self, data: bytes) -> None:
        # At most MOST bytes are ever under way: they fit into the socket's buffer.
        if self._control is not None and data:
            try:
                self._control.sendall(data)
            except OSError:
                self._lose_control(self._control)

    def _lose_control(self, sock: socket.socket) -> None:
        self.loop.unwatch(sock)
        sock.close()
        if self._control is sock:
            self._control = None


class Client:
    """A program of the sandbox that waits for somebody to call in."""

    timer: Timer

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock


class Pair:
    """Two joined sockets. What one says is kept for the other, a piece at a time; each end is passed on by itself."""

    def __init__(self, relay: Relay, client: socket.socket, host: socket.socket) -> None:
        self._relay, self._host = relay, host
        self._peer = {client: host, host: client}
        self._held = {client: b"", host: b""}  # to be written to it
        self._silent = {client: False, host: False}  # it will say no more
        self._deaf = {client: False, host: False}  # it takes no more: what is for it is thrown away
        self._linger: Timer | None = None
        self._watch()

    def _watch(self) -> None:
        for sock, peer in self._peer.items():
            wanted = (READ if not self._silent[sock] and not self._held[peer] else 0) | (
                WRITE if self._held[sock] else 0
            )
            if wanted:
                self._relay.loop.watch(sock, wanted, partial(self._ready, sock))
            else:
                self._relay.loop.unwatch(sock)

    def _ready(self, sock: socket.socket, mask: int) -> None:
        if mask & WRITE:
            self._write(sock)
        elif mask & READ:
            self._read(sock)
        if all(self._silent.values()) and not any(self._held.values()):
            self._close()
        else:
            self._watch()

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer = self._peer[sock]
        if data and not self._deaf[peer]:
            self._held[peer] = data
            self._write(peer)
        elif not data:
            self._silent[sock] = True
            with suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
            if sock is self._host:
                # The answer is complete. What the client still sends is read for a while, lest a reset overtake the answer.
                self._linger = self._relay.loop.later(LINGER, self._close)

    def _write(self, sock: socket.socket) -> None:
        try:
            self._held[sock] = self._held[sock][sock.send(self._held[sock]) :]
        except BlockingIOError:
            return
        except OSError:
            self._held[sock], self._deaf[sock] = b"", True

    def _close(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
        for sock in self._peer:
            self._relay.loop.unwatch(sock)
            sock.close()
        self._relay.left()
