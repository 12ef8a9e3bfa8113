"""Two network namespaces joined by a cable: the gateway's, and an Internet with servers that must and servers that must not be reached."""

from __future__ import annotations

import datetime as dt
import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.docker import DockerDriver
from runtime.drivers.types import MIB, Resources, SandboxSpec
from runtime.egress.gateway import SOCKET
from tests.drivers.conftest import OCI_RUNTIME, bubblewrap_images, docker_images, host_pid, run  # noqa: F401
from tests.egress import internet
from tests.requirements import need


def command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class Lab:
    """`request(...)` of the gateway; `hits()` of the servers: what was really reached."""

    def __init__(self, **limits: float) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="egress-lab-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.hits_path = self.folder / "hits"
        self.hits_path.touch()
        certificate = self.folder / "server.pem"
        certificate.write_bytes(_certificate())
        shared = [str(self.hits_path), str(certificate)]
        self._answers: queue.Queue[dict] = queue.Queue()
        self.log: list[dict] = []
        self._outlets: dict[str, dict] = {}
        self._internet = self._start("tests.egress.internet", *shared, before=self._make_network)
        assert self._internet.stdout.readline() == "ready\n"
        door = [str(self.folder / "proxy"), *shared, json.dumps(limits)]
        self._door = self._start("tests.egress.door", *door, before=lambda process: self._cable(process))
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._answers.get(timeout=40) == {"ready": True}

    def _start(self, module: str, *arguments: str, before) -> subprocess.Popen:
        """In a namespace of its own, which `before` furnishes while the program waits."""
        script = 'read go && exec "$@"'
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        mine = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 10
        while os.readlink(f"/proc/{process.pid}/ns/net") == mine:
            assert time.monotonic() < end
        before(process)
        process.stdin.write("go\n")
        return process

    def _make_network(self, process: subprocess.Popen) -> None:
        """Addresses first on a cable without an end; the other end comes with the gateway."""
        self._in(process, "ip", "link", "set", "lo", "up")
        self._in(process, "ip", "link", "add", "wire", "type", "veth", "peer", "name", "spare")
        for address in (internet.PUBLIC, internet.OTHER, internet.NAMESERVER):
            self._in(process, "ip", "addr", "add", f"{address}/24", "dev", "wire")
        self._in(process, "ip", "-6", "addr", "add", f"{internet.PUBLIC6}/64", "dev", "wire", "nodad")
        for address in internet.PRIVATE:
            length = "64" if address.startswith("fe80") else "128" if ":" in address else "32"
            words = ["nodad"] if ":" in address else []
            self._in(process, "ip", "addr", "add", f"{address}/{length}", "dev", "wire", *words)
        self._in(process, "ip", "link", "set", "wire", "up")

    def _cable(self, process: subprocess.Popen) -> None:
        self._in(self._internet, "ip", "link", "set", "spare", "netns", str(process.pid))
        self._in(process, "ip", "link", "set", "lo", "up")
        self._in(process, "ip", "addr", "add", f"{internet.GATEWAY}/24", "dev", "spare")
        self._in(process, "ip", "-6", "addr", "add", f"{internet.GATEWAY6}/64", "dev", "spare", "nodad")
        self._in(process, "ip", "link", "set", "spare", "up")
        # Whatever is private is one hop away: only the proxy's refusal stands between.
        self._in(process, "ip", "route", "add", "default", "dev", "spare")
        self._in(process, "ip", "-6", "route", "add", "default", "dev", "spare")

    @staticmethod
    def _in(process: subprocess.Popen, *words: str) -> None:
        command("nsenter", f"--net=/proc/{process.pid}/ns/net", *words)

    def _listen(self) -> None:
        for line in self._door.stdout:
            what = json.loads(line)
            (self.log if "verdict" in what else self._answers_list()).append(what)

    def _answers_list(self):
        class Put:
            append = self._answers.put

        return Put

    def _ask(self, **order: object) -> dict:
        self._door.stdin.write(json.dumps(order) + "\n")
        return self._answers.get(timeout=10)

    def allow(self, sandbox, *hosts: str, template: str = "tpl") -> None:
        """From now on that sandbox has this list; none: no way out at all."""
        row = {"name": sandbox.name, "socket": str(sandbox.socket.parent / SOCKET), "members": [sandbox.name, sandbox.ref],
               "hosts": list(hosts), "template": template, "session": f"sess_{sandbox.name}"}  # fmt: skip
        self._outlets[sandbox.name] = row
        if not hosts:
            del self._outlets[sandbox.name]
        self._ask(follow=list(self._outlets.values()))

    def figures(self) -> dict:
        """`connections` that are carried now, and the `most` that ever were at a time."""
        return self._ask()

    def hits(self) -> list[str]:
        """ "address port" of every connection that a server got since the last question."""
        lines = self.hits_path.read_text().splitlines()
        self.hits_path.write_text("")
        return lines

    def proxies(self) -> list[int]:
        """The pids of squid and of what it started."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(self.folder / "proxy").encode() in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return [pid for pid in found if pid != self._door.pid]

    @staticmethod
    def relays(box) -> list[int]:
        """The processes in the sandbox that listen at its port: by the one that has the relay's two listening sockets and no capability."""
        namespace, found = os.readlink(f"/proc/{host_pid(box.sandbox)}/ns/pid"), []
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                words = status.read_text()
                if (
                    os.readlink(status.parent / "ns/pid") == namespace
                    and "\nUid:\t0\t" in words
                    and "CapPrm:\t0000000000000000" in words
                ):
                    found.append(int(status.parent.name))
            except OSError:
                continue
        return found

    def close(self) -> None:
        for process in (self._door, self._internet):
            process.stdin.close()
            process.wait(20)
        assert not self.proxies()
        command("rm", "-rf", str(self.folder))


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(pem)


@pytest.fixture(scope="session")
def lab():
    need("egress")
    made = Lab()
    yield made
    made.close()


@dataclass
class Box:
    """A sandbox of one driver."""

    driver: object
    sandbox: object

    @property
    def name(self) -> str:
        return self.sandbox.name

    def run(self, code: str, language: str = "python", timeout: float = 40.0) -> str:
        """What code prints; it must end well."""
        result, stdout, stderr = run(self.sandbox, code, language=language, timeout=timeout)
        assert result.outcome == "ok", (result, stdout, stderr)
        return stdout.strip()

    def remove(self) -> None:
        self.driver.remove(self.name)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ],
)
def make_box(request, tmp_path_factory):
    """Makes real sandboxes of each driver in turn."""
    need("egress")
    need(request.param)
    image = request.getfixturevalue(f"{request.param}_images")()
    driver = {"docker": DockerDriver, "bubblewrap": BubblewrapDriver}[request.param](
        f"t{secrets.token_hex(4)}", tmp_path_factory.mktemp("state")
    )
    made = []

    def make(egress: bool = True) -> Box:
        name = f"sbx-{secrets.token_hex(8)}"
        oci = {"oci_runtime": OCI_RUNTIME} if request.param == "docker" else {}
        limits = Resources(memory=512 * MIB, disk=64 * MIB)
        spec = SandboxSpec(name=name, image=image, slots=2, resources=limits, egress=egress, **oci)
        made.append(Box(driver, driver.create(spec)))
        return made[-1]

    yield make
    for box in made:
        box.remove()
