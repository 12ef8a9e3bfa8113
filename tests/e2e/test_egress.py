"""A template gets a list of hosts while the service runs: its sessions reach those alone, and the proxy goes with the service."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.api.client import eventually
from tests.e2e.service import Service
from tests.requirements import need

HOSTS = ["listed.invalid", "*.below.invalid"]
FETCH = """
import urllib.request, urllib.error
def handler(event):
    try:
        with urllib.request.urlopen(event["url"], timeout=40) as answer: return [answer.status, ""]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]
"""


@pytest.fixture
def service() -> Iterator[Service]:
    need("egress")
    need("bubblewrap")
    service = Service("bubblewrap")
    try:
        service.start()
        yield service
    finally:
        service.remove()


def squids(state: Path) -> list[int]:
    """Those that a gateway of this state folder started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"squid" in (path / "cmdline").read_bytes() and str(state).encode() in _environment_of_parent(path):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def _environment_of_parent(path: Path) -> bytes:
    parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
    return Path(f"/proc/{parent}/environ").read_bytes()


def fetch(service: Service, session: str, url: str) -> tuple[int, str]:
    body = {"language": "python", "code": FETCH, "event": {"url": url}, "timeout": 60}
    run = service.api("POST", f"/sessions/{session}/execute", json=body, headers={"Prefer": "wait=50"}).json()
    end = time.monotonic() + 60
    while run["status"] in ("submitted", "pending", "running"):
        assert time.monotonic() < end, run
        run = service.api("GET", f"/executions/{run['execution_id']}/result?wait=30").json()
    assert run["status"] == "success", run
    return tuple(run["return_value"])


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_from_a_template_with_a_list_to_the_end_of_the_service(service: Service) -> None:
    listed = service.api("PATCH", "/templates/python-basic", json={"network": "allowlist", "allowed_hosts": HOSTS})
    assert listed.status_code == 200, listed.text

    def created() -> requests.Response | None:  # 503 until the gateway is up
        body = {"template_id": "python-basic", "allowed_hosts": ["a.below.invalid"]}
        answer = service.api("POST", "/sessions", json=body, headers={"Prefer": "wait=60"})
        return answer if answer.status_code == 201 else None

    session = eventually(created, 60).json()
    assert (session["network"], session["allowed_hosts"]) == ("allowlist", ["a.below.invalid"])

    status, words = fetch(service, session["session_id"], "http://listed.invalid/path?secret")
    assert status == 403 and "template python-basic" in words and "a.below.invalid" in words
    status, words = fetch(service, session["session_id"], "http://a.below.invalid/")
    assert status in (500, 502, 503, 504) and "could not do this" in words, "allowed, but there is no such name"

    def logged() -> list[dict]:
        lines = (service.state / "logs" / "egress.log").read_text().splitlines()
        rows = [json.loads(line) for line in lines if line.startswith("{") and session["session_id"] in line]
        return [row for row in rows if row.get("host") == "listed.invalid"]

    row = eventually(logged)[0]
    assert (row["verdict"], row["template"], row["status"]) == ("denied", "python-basic", 403)
    assert "secret" not in json.dumps(row)
    counted = 'sandbox_egress_requests_total{template="python-basic",verdict="denied"} 1.0'
    eventually(lambda: counted in requests.get(f"{service.url}/metrics", timeout=10).text)

    (proxy,) = squids(service.state)
    assert b"\x00".join([b"-N", b"-f"]) in Path(f"/proc/{proxy}/cmdline").read_bytes()
    assert Path(f"/proc/{proxy}").stat().st_uid != 0
    os.kill(proxy, signal.SIGKILL)
    eventually(lambda: squids(service.state) not in ([], [proxy]), 30)
    assert fetch(service, session["session_id"], "http://listed.invalid/")[0] == 403

    service.stop()
    assert squids(service.state) == []
    assert not [path for path in Path("/run").glob("sandbox-egress-*") if _is_of(path, service)]


def _is_of(path: Path, service: Service) -> bool:
    return path.name.endswith(hashlib.sha256(str(service.state).encode()).hexdigest()[:8])
