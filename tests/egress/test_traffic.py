"""What a sandbox with a list can reach and what it can't: a real proxy, real sandboxes of both drivers, servers behind real addresses."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.egress import internet
from tests.egress.conftest import Lab

LISTED = (
    "allowed.example.com",
    "*.allowed.example.com",
    "six.example.com",
    "other.example.net:8443",
    *internet.FORBIDDEN,
    internet.REBINDING,
)
FETCH = """
import json, ssl, urllib.error, urllib.request
trusting = ssl._create_unverified_context()
def fetch(url, timeout=15, data=None):
    try:
        with urllib.request.urlopen(url, data=data, timeout=timeout, context=trusting if url.startswith("https") else None) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]
    except OSError as error:
        return [0, str(error)]
"""


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)
    return result


def fetch(box, *urls: str) -> list[tuple[int, str]]:
    """Status and text of each; 0 where there was no answer. All by urllib, which finds the proxy by itself."""
    return [
        tuple(pair) for pair in json.loads(box.run(FETCH + f"print(json.dumps([fetch(u) for u in {list(urls)!r}]))"))
    ]


@pytest.fixture(scope="module")
def box(make_box, lab):
    made = make_box()
    lab.allow(made.sandbox, *LISTED)
    yield made
    lab.allow(made.sandbox)


def test_listed_hosts_answer(box, lab):
    lab.hits()
    plain, below, six, tunnel = fetch(
        box, "http://allowed.example.com/a", "http://also.allowed.example.com/b", "http://six.example.com/c",
        "https://allowed.example.com/d",
    )  # fmt: skip
    seen = [json.loads(text) for _, text in (plain, below, six, tunnel)]
    assert [status for status, _ in (plain, below, six, tunnel)] == [200] * 4
    assert [(one["host"], one["path"]) for one in seen] == [
        ("allowed.example.com", "/a"), ("also.allowed.example.com", "/b"), ("six.example.com", "/c"), ("allowed.example.com", "/d"),
    ]  # fmt: skip
    assert not {"via", "x-forwarded-for", "forwarded", "proxy-authorization"} & set(seen[0]["headers"])
    # Each request had a connection of its own: none is shared between sandboxes.
    reached = [f"{internet.PUBLIC6} 80", f"{internet.PUBLIC} 443", *[f"{internet.PUBLIC} 80"] * 2]
    assert sorted(lab.hits()) == sorted(reached)


def test_curl_and_bash_find_the_proxy(box):
    script = "command -v curl >/dev/null || exit 0; curl -sk https://allowed.example.com/x http://allowed.example.com/y"
    printed = box.run(script, language="shell")
    assert not printed or ("/x" in printed and "/y" in printed)
    assert box.run("echo $http_proxy $HTTPS_PROXY", language="shell") == "http://127.0.0.1:3128 http://127.0.0.1:3128"


def test_a_host_that_is_not_listed_is_refused_in_words(box, lab):
    lab.hits()
    (status, words), (tunnel, reason) = fetch(box, "http://other.example.net/secret?x=1", "https://other.example.net/")
    assert status == 403 and "other.example.net" in words and "template tpl" in words and "allowed.example.com" in words
    assert tunnel == 0 and "403" in reason
    assert lab.hits() == []
    name = box.name
    record = until(
        lambda: [row for row in lab.log if row["host"] == "other.example.net" and row["outlet"] == f"sess_{name}"]
    )
    assert {row["verdict"] for row in record} == {"denied"} and record[0]["status"] == 403
    assert "secret" not in json.dumps(lab.log), "no paths in the log"


def test_what_is_logged_of_a_request_that_was_allowed(box, lab):
    before = len(lab.log)
    fetch(box, "http://allowed.example.com/big?100000")
    row = until(lambda: [row for row in lab.log[before:] if row["outlet"] == f"sess_{box.name}"])[0]
    assert (row["verdict"], row["method"], row["host"], row["port"], row["status"]) == (
        "allowed", "GET", "allowed.example.com", "80", 200,
    )  # fmt: skip
    assert row["received"] > 100_000


def test_addresses_are_refused(box, lab):
    lab.hits()
    answers = fetch(
        box, f"http://{internet.PUBLIC}/", f"https://{internet.PUBLIC}/", f"http://[{internet.PUBLIC6}]/", "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/", "http://2130706433/", "http://0x7f000001/", "http://[::1]/",
        "http://[::ffff:10.0.0.1]/", "http://localhost./",
    )  # fmt: skip
    # urllib leaves localhost to the sandbox itself; where nobody listens.
    assert all(status in (0, 403) for status, _ in answers), answers
    assert lab.hits() == []


@pytest.mark.parametrize("name", internet.FORBIDDEN)
def test_an_allowed_name_that_leads_to_a_forbidden_address_is_refused(box, lab, name):
    lab.hits()
    (status, words), (tunnel, reason) = fetch(box, f"http://{name}/", f"https://{name}/")
    assert status == 403 and "never allowed" in words, words
    assert tunnel == 0 and "403" in reason
    assert lab.hits() == []


def test_a_name_that_changes_its_address_never_leads_to_a_forbidden_one(box, lab):
    """The name's answer changes each second, and its TTL is 0: what was looked at must be what is connected to."""
    lab.hits()
    code = FETCH + (
        "import time\nfrom collections import Counter\nfrom concurrent.futures import ThreadPoolExecutor\nend = time.time() + 8\n"
        "def one(n):\n    seen = Counter()\n    while time.time() < end:\n"
        f"        seen[fetch('http' + 's' * (n % 2) + '://{internet.REBINDING}/')[0]] += 1\n    return seen\n"
        "total = Counter()\nwith ThreadPoolExecutor(8) as pool:\n    for seen in pool.map(one, range(8)): total.update(seen)\n"
        "print(json.dumps(total))"
    )
    statuses = json.loads(box.run(code, timeout=60))
    assert statuses.get("200", 0) > 10 and statuses.get("403", 0) > 10, statuses
    reached = Counter(line.split()[0] for line in lab.hits())
    assert set(reached) == {internet.PUBLIC}, reached


def test_other_ports_are_refused_unless_the_entry_names_one(box, lab):
    lab.hits()
    answers = fetch(
        box, "http://allowed.example.com:8080/", "https://allowed.example.com:8443/", "http://allowed.example.com:443/",
        "http://other.example.net/", "https://other.example.net/",
    )  # fmt: skip
    assert [status for status, _ in answers] == [403, 0, 403, 403, 0]
    assert lab.hits() == []
    assert fetch(box, "https://other.example.net:8443/z")[0][0] == 200
    assert lab.hits() == [f"{internet.OTHER} 8443"]


def test_the_proxy_does_http_and_nothing_else(box, lab):
    """A tunnel to port 80, other schemes, its own pages, and bytes that are no HTTP."""
    lab.hits()
    code = """
import socket, json
def say(data):
    with socket.create_connection(("127.0.0.1", 3128), timeout=15) as sock:
        sock.sendall(data)
        got = b""
        while piece := sock.recv(65536):
            got += piece
            if b"\\r\\n\\r\\n" in got: break
        return got.split(b"\\r\\n")[0].decode("latin-1")
close = b"Connection: close\\r\\n\\r\\n"
print(json.dumps([
    say(b"CONNECT allowed.example.com:80 HTTP/1.1\\r\\n" + close),
    say(b"CONNECT allowed.example.com:22 HTTP/1.1\\r\\n" + close),
    say(b"CONNECT 10.0.0.1:443 HTTP/1.1\\r\\n" + close),
    say(b"GET ftp://allowed.example.com/ HTTP/1.1\\r\\nHost: allowed.example.com\\r\\n" + close),
    say(b"GET https://allowed.example.com/ HTTP/1.1\\r\\nHost: allowed.example.com\\r\\n" + close),
    say(b"GET http://127.0.0.1:3128/squid-internal-mgr/menu HTTP/1.1\\r\\nHost: x\\r\\n" + close),
    say(b"GET cache_object://127.0.0.1/ HTTP/1.1\\r\\nHost: x\\r\\n" + close),
    say(b"GET http://10.0.0.1/ HTTP/1.1\\r\\nHost: allowed.example.com\\r\\n" + close),
    say(b"GET / HTTP/1.1\\r\\nHost: allowed.example.com\\r\\n" + close),
    say(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1\\r\\nGET http://other.example.net/ HTTP/1.1\\r\\nHost: other.example.net\\r\\n" + close),
    say(b"\\x00\\x01 no http at all\\r\\n\\r\\n"),
]))
"""
    for line in json.loads(box.run(code)):
        assert line == "" or int(line.split()[1]) in (400, 403, 404, 501, 503), line
    assert lab.hits() == []


def test_there_is_no_other_way_out(box):
    """Sockets of one's own and names get nowhere; there is still no interface but lo."""
    code = """
import socket, os, json
def tried(what):
    try: what(); return "went through"
    except OSError: return "refused"
print(json.dumps([
    sorted(name for _, name in socket.if_nameindex()),
    tried(lambda: socket.create_connection(("203.0.113.10", 80), timeout=3)),
    tried(lambda: socket.create_connection(("2001:db8::10", 80), timeout=3)),
    tried(lambda: socket.getaddrinfo("allowed.example.com", 80)),
    tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("203.0.113.53", 53))),
    tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    tried(lambda: socket.socket(socket.AF_UNIX).connect("/run/sbx/egress.sock")),
    tried(lambda: os.listdir("/run/sbx")),
]))
"""
    interfaces, *tries = json.loads(box.run(code))
    assert interfaces == ["lo"] and tries == ["refused"] * 7


def test_a_sandbox_can_not_use_the_list_of_another(make_box, lab):
    one, other = make_box(), make_box()
    lab.allow(one.sandbox, "allowed.example.com")
    lab.allow(other.sandbox, "other.example.net")
    urls = ("http://allowed.example.com/", "http://other.example.net/")
    assert [status for status, _ in fetch(one, *urls)] == [200, 403]
    assert [status for status, _ in fetch(other, *urls)] == [403, 200]
    lab.allow(one.sandbox)
    lab.allow(other.sandbox)


def test_a_list_that_is_taken_away_cuts_what_is_open(make_box, lab):
    box = make_box()
    lab.allow(box.sandbox, "allowed.example.com")
    assert fetch(box, "http://allowed.example.com/")[0][0] == 200
    lab.allow(box.sandbox)
    status, words = fetch(box, "http://allowed.example.com/")[0]
    assert status == 503 and "does not answer" in words


def test_without_egress_there_is_no_port_and_no_word_of_a_proxy(make_box, lab):
    box = make_box(egress=False)
    code = """
import os, socket
print([n for n in os.environ if 'proxy' in n.lower()])
print(socket.socket().connect_ex(('127.0.0.1', 3128)))
"""
    assert box.run(code).splitlines() == ["[]", "111"]


def test_many_connections_at_once(box):
    code = (
        FETCH
        + """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(50) as pool:
    print(json.dumps([one[0] for one in pool.map(lambda n: fetch(f"http://allowed.example.com/slow?{n % 5 / 10}", 60), range(50))]))
"""
    )
    assert json.loads(box.run(code, timeout=90)) == [200] * 50


def test_a_flood_of_connections_is_bounded_and_leaves_the_way_open(box, lab):
    """400 connections that say nothing: only so many are carried, and none is left when the run is over."""
    code = """
import socket
held = []
for _ in range(400):
    sock = socket.socket(); sock.setblocking(False); sock.connect_ex(("127.0.0.1", 3128)); held.append(sock)
import time
time.sleep(1.5)
print(len(held))
"""
    assert box.run(code) == "400"
    assert lab.figures()["most"] <= 64
    assert until(lambda: lab.figures()["connections"] == 0) is True
    assert fetch(box, "http://allowed.example.com/")[0][0] == 200


def test_large_bodies_go_both_ways(box):
    code = FETCH + (
        "got = fetch('http://allowed.example.com/big?20000000')\n"
        "sent = fetch('https://allowed.example.com/up', data=b'x' * 20_000_000)\nprint(got[0], len(got[1]), sent[0])"
    )
    assert box.run(code) == "200 20000000 200"


def test_the_way_out_ends_with_its_sandbox(make_box, lab):
    box = make_box()
    lab.allow(box.sandbox, "allowed.example.com")
    assert fetch(box, "http://allowed.example.com/")[0][0] == 200
    box.remove()
    assert until(lambda: lab.figures()["connections"] == 0) is True
    assert not box.sandbox.socket.parent.exists()
    lab.allow(box.sandbox)


def test_a_connection_carries_so_much_and_is_silent_so_long(make_box):
    lab = Lab(size=300_000, idle=1.0)
    try:
        box = make_box()
        lab.allow(box.sandbox, "allowed.example.com")
        code = (
            FETCH
            + """
import http.client
try: print(len(fetch("http://allowed.example.com/big?200000")[1]))
except http.client.IncompleteRead as error: print("cut", len(error.partial))
try: print(len(fetch("http://allowed.example.com/big?2000000")[1]))
except http.client.IncompleteRead as error: print("cut", len(error.partial) < 400_000)
print(fetch("http://allowed.example.com/slow?5")[0])
"""
        )
        try:
            assert box.run(code).splitlines() == ["200000", "cut True", "0"]
        finally:
            box.remove()
    finally:
        lab.close()


def test_the_relay_comes_back_when_it_dies(box, lab):
    """It is root of the sandbox without a capability; whoever kills it from outside finds a new one."""
    found = lab.relays(box)
    assert len(found) == 1
    status = Path(f"/proc/{found[0]}/status").read_text()
    assert "CapEff:\t0000000000000000" in status and "CapPrm:\t0000000000000000" in status
    os.kill(found[0], signal.SIGKILL)
    until(lambda: lab.relays(box) not in ([], found))
    assert until(lambda: fetch(box, "http://allowed.example.com/")[0][0] == 200) is True
