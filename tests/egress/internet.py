"""An Internet of the tests' own: name server, web servers, and addresses that nobody may reach, in a network namespace.

`python -m tests.egress.internet HITS CERTIFICATE`, in a namespace that has the addresses. Each accepted connection is a line in the file
HITS: the address and port that were reached. It ends with its standard input.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMESERVER = "203.0.113.53"
PUBLIC, OTHER, PUBLIC6 = "203.0.113.10", "203.0.113.20", "2001:db8::10"
PRIVATE = (
    "10.0.0.1",
    "192.168.1.1",
    "172.16.5.5",
    "169.254.169.254",
    "168.63.129.16",
    "100.64.0.1",
    "fd00::1",
    "fe80::a",
)
GATEWAY, GATEWAY6 = "203.0.113.1", "2001:db8::1"
PORTS = (80, 443, 8080, 8443)
NAMES = {
    "allowed.example.com": [PUBLIC],
    "also.allowed.example.com": [PUBLIC],
    "other.example.net": [OTHER],
    "six.example.com": [PUBLIC6],
    "metadata.example.com": ["169.254.169.254"],
    "platform.example.com": ["168.63.129.16"],
    "ten.example.com": ["10.0.0.1"],
    "lan.example.com": ["192.168.1.1"],
    "mid.example.com": ["172.16.5.5"],
    "cgnat.example.com": ["100.64.0.1"],
    "loop.example.com": ["127.0.0.1"],
    "loop6.example.com": ["::1"],
    "mapped.example.com": ["::ffff:10.0.0.1"],
    "unique.example.com": ["fd00::1"],
    "link.example.com": ["fe80::a"],
    "zero.example.com": ["0.0.0.0"],
    "multi.example.com": ["224.0.0.1"],
    "nat64.example.com": ["64:ff9b::a00:1"],
    "host.example.com": [GATEWAY],
    "host6.example.com": [GATEWAY6],
    "both.example.com": [PUBLIC, "10.0.0.1"],
    "mixed.example.com": [PUBLIC, "fd00::1"],
}
FORBIDDEN = [name for name, places in NAMES.items() if not set(places) <= {PUBLIC, OTHER, PUBLIC6}]
REBINDING = "rebind.example.com"
"""Leads to PUBLIC for a second, to 10.0.0.1 for the next, and so on, with a TTL of 0."""


def answer(query: bytes) -> bytes:
    """The datagram for a datagram."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += query[at] + 1
    kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
    name = ".".join(labels)
    places = [("10.0.0.1", PUBLIC)[int(time.time()) % 2]] if name == REBINDING else NAMES.get(name, [])
    found = [ipaddress.ip_address(place) for place in places]
    matching = [place for place in found if kind == {4: 1, 6: 28}[place.version]]
    known = 0 if places else 3
    head = query[:2] + struct.pack("!HHHHH", 0x8180 | known, 1, len(matching), 0, 0)
    ttl = 0 if name == REBINDING else 60
    records = b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, ttl, len(place.packed)) + place.packed for place in matching
    )
    return head + query[12 : at + 5] + records


def name_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((NAMESERVER, 53))
        while True:
            query, sender = sock.recvfrom(4096)
            sock.sendto(answer(query), sender)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 256
    context: ssl.SSLContext | None = None
    hits = ""

    def get_request(self):
        connection, client = super().get_request()
        with open(self.hits, "a") as file:
            file.write("{} {}\n".format(*connection.getsockname()[:2]).removeprefix("::ffff:"))
        connection.settimeout(30)
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, client

    def handle_error(self, request, client_address) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Who was asked for what. `/slow?N` waits, `/big?N` is so many bytes."""
        kind, _, number = self.path.partition("?")
        if kind == "/slow":
            time.sleep(float(number))
        body = b"x" * int(number) if kind == "/big" else self._seen()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.do_GET()

    def _seen(self) -> bytes:
        names = [name.lower() for name in self.headers]
        return json.dumps({"host": self.headers["Host"], "path": self.path, "headers": names}).encode()

    def log_message(self, *_args: object) -> None:
        pass


def serve(hits: str, certificate: str, ports: tuple[int, ...] = PORTS) -> None:
    for port in ports:
        server = Server(("::", port), Handler)
        server.hits = hits
        if port in (443, 8443):
            server.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            server.context.load_cert_chain(certificate)
        threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    serve(*sys.argv[1:3])
    threading.Thread(target=name_server, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
