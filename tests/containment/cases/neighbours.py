"""Other sandboxes, the network, and what is ours."""

from __future__ import annotations

import threading

from runtime.drivers.errors import ExecutorError
from runtime.drivers.executor_client import ExecutorClient, Output, RunRequest
from tests.containment.cases.case import PRELUDE, inside, outside
from tests.containment.targets import Ours, run_in

MARKS = """
import ctypes, os, socket, time
for folder in ("/workspace", "/tmp", "/dev/shm"):
    open(folder + "/{mark}", "w").write("{mark}")
listener = socket.socket(socket.AF_UNIX); listener.bind("\\0{mark}"); listener.listen()
ctypes.CDLL(None).shmget({key}, 4096, 0o1666)
print("ready", flush=True); time.sleep(60)
"""
FIND = """
for folder in ("/workspace", "/tmp", "/dev/shm", "/var/tmp", "/run"):
    for where, _, names in os.walk(folder):
        if "{mark}" in names: through("file in " + where)
tried("abstract socket", lambda: socket.socket(socket.AF_UNIX).connect("\\0{mark}"))
if libc.shmget({key}, 4096, 0) >= 0: through("shared memory")
if "{mark}" in open("/proc/net/unix").read(): through("/proc/net/unix")
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        if "{mark}" in open(path).read(): through(path)
    except OSError: pass
"""


@outside("A41", "a neighbour's files, sockets, shared memory and processes")
def neighbour(target: Ours) -> str:
    other, mark, key = target.make(), "mark-of-a-neighbour", 0x5B5B
    client, ready = ExecutorClient(other.socket), threading.Event()

    def stay() -> None:
        try:
            for event in client.run("stay", RunRequest("python", MARKS.format(mark=mark, key=key), timeout=60), 70):
                if isinstance(event, Output) and b"ready" in event.data:
                    ready.set()
        except ExecutorError:
            ready.set()  # it was removed

    thread = threading.Thread(target=stay, daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        assert (
            run_in(other, "import os; print(os.path.exists('/workspace/mark-of-a-neighbour'))").stdout.strip() == "True"
        )
        done = target.run(PRELUDE + FIND.format(mark=mark, key=key))
        found = [line for line in done.stdout.splitlines() if line.startswith("THROUGH")]
        return "; ".join(found) or ("" if done.outcome == "ok" else done.stderr[-300:])
    finally:
        target.driver.remove(other.name)
        thread.join(20)


network = inside("A42", "the network: metadata, private and public addresses, names, the engine's ports", """
names = [name for _, name in socket.if_nameindex() if name.startswith(("eth", "en", "wl", "docker", "br", "veth"))]
if names: through("interfaces", names)
for family, address in ((2, ("169.254.169.254", 80)), (2, ("10.0.0.1", 80)), (2, ("192.168.0.1", 80)), (2, ("172.17.0.1", 2375)),
                        (2, ("172.17.0.1", 2376)), (2, ("8.8.8.8", 53)), (10, ("fd00:ec2::254", 80)), (10, ("2001:4860:4860::8888", 53))):
    def reach():
        probe = socket.socket(family); probe.settimeout(1); probe.connect(address)
    tried(str(address), reach)
tried("names", socket.getaddrinfo, "example.org", 80)
""")  # fmt: skip
environment = inside("A44", "secrets in the environment of any process", """
for path in glob.glob("/proc/[0-9]*/environ"):
    try: text = open(path).read()
    except OSError: continue
    for word in ("TOKEN", "SECRET", "PASSWORD", "AWS_", "DATABASE_URL", "DOCKER_HOST"):
        if word in text.upper(): through(word, path)
""")  # fmt: skip
