"""A sandbox that has the port of the egress proxy: everything else about its network stays as it is."""

from __future__ import annotations

from tests.containment.cases.case import PRELUDE, outside
from tests.containment.targets import Ours, run_in

EGRESS = """
names = [name for _, name in socket.if_nameindex()]
if names != ["lo"]: through("interfaces", names)
for family, address in ((2, ("169.254.169.254", 80)), (2, ("10.0.0.1", 80)), (2, ("172.17.0.1", 2375)), (2, ("8.8.8.8", 53)),
                        (10, ("fd00:ec2::254", 80)), (10, ("2001:4860:4860::8888", 53))):
    def reach():
        probe = socket.socket(family); probe.settimeout(1); probe.connect(address)
    tried(str(address), reach)
tried("names", socket.getaddrinfo, "example.org", 80)
tried("dial the relay from inside", lambda: socket.socket(socket.AF_UNIX).connect("/run/sbx/egress.sock"))
tried("remove the relay's socket", os.unlink, "/run/sbx/egress.sock")
tried("take the port", lambda: socket.create_server(("127.0.0.1", 3128)))
relays = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid() and os.stat("/proc/" + pid).st_uid == 0]
for pid in relays:
    tried(f"kill {pid}", os.kill, pid, signal.SIGKILL)
    tried(f"write {pid}", lambda: open(f"/proc/{pid}/mem", "r+b"))
with socket.create_connection(("127.0.0.1", 3128), timeout=15) as probe:
    probe.sendall(b"GET http://169.254.169.254/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    if b" 503 " not in probe.recv(100): through("the port answers by itself")
"""


@outside(
    "A43", "with a list of hosts: the same addresses, the relay and its port; with nobody outside it leads nowhere"
)
def egress(target: Ours) -> str:
    sandbox = target.make(egress=True)
    try:
        done = run_in(sandbox, PRELUDE + EGRESS, 40)
    finally:
        target.driver.remove(sandbox.name)
    lines = [line.removeprefix("THROUGH ") for line in done.stdout.splitlines() if line.startswith("THROUGH")]
    return "; ".join(lines) or ("" if done.outcome == "ok" else f"ended as {done.outcome}: {done.stderr[-300:]}")
