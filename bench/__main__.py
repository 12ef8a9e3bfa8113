"""`make bench [ARGS="--quick"]`: starts a service (Docker driver, PostgreSQL) and measures it beside its peers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import burst, cold, crowd, ending, files, leaks, load, peers, safety
from bench.client import Client
from bench.figures import Report, interleave, percentile
from bench.operator import Operator
from tests import postgres
from tests.e2e.service import Service

HELLO = "def handler(event):\n    return {'hello': event['name']}"
EVENT = {"event": {"name": "Alice"}}
PANDAS = "import pandas\n\ndef handler(event):\n    return pandas.DataFrame({'a': [1]}).sum().to_dict()"
SLEEP = "import time\n\ndef handler(event):\n    print('asleep', flush=True)\n    time.sleep(event['seconds'])"
RESULTS = Path(__file__).parent / "results"


class Bench:
    """One run against one service."""

    def __init__(self, service: Service, rounds: int, operator: Operator) -> None:
        self.service, self.rounds, self.operator = service, rounds, operator
        self.report = Report()
        self.client = self.new_client()

    def new_client(self) -> Client:
        """Its own connection."""
        return Client(self.service.port, self.service.token)

    def image(self, template: str) -> str:
        """The image that the peers run."""
        return self.client.call("GET", f"/api/v1/templates/{template}")["image"]

    def runs(self) -> None:
        """One run at a time, beside the peers."""
        print("One run at a time")
        hello, science = (
            self.client.session(),
            self.client.session("python-datascience", resources={"cpu": "1", "memory": "1Gi"}),
        )
        with ExitStack() as stack:
            cases: dict[str, Callable[[], object]] = {
                "GET /health": lambda: self.client.call("GET", "/health"),
                "submit": lambda: self.client.submit(hello, HELLO, **EVENT),
                "hello, Prefer: wait": lambda: self.client.run(hello, HELLO, **EVENT),
                "hello, submit and long-poll": lambda: self.long_poll(hello),
                "pandas, Prefer: wait": lambda: self.client.run(science, PANDAS),
            }
            basic, data = self.image("python-basic"), self.image("python-datascience")
            for name, make, *args in (
                ("peer: docker exec python3", peers.DockerExec, basic),
                ("peer: docker exec python3, pandas", peers.DockerExec, data, peers.PANDAS),
                ("peer: docker run", peers.DockerRun, basic),
                ("peer: jupyter kernel", peers.JupyterKernel),
                ("peer: llm-sandbox", peers.LlmSandbox, basic),
            ):
                peer = peers.available(make, *args)
                if peer is not None:
                    stack.callback(peer.close)
                    cases[name] = peer
            self.report.add(interleave(cases, self.rounds, settle=self.settle))
        p = self.report.p
        bar = self.report.bar
        bar(
            "hello by Prefer: wait, p50 / docker exec python3 -c",
            p("hello, Prefer: wait") / p("peer: docker exec python3"),
            0.20,
            0.10,
        )
        bar("the same importing pandas", p("pandas, Prefer: wait") / p("peer: docker exec python3, pandas"), 0.06, 0.03)
        bar("hello / warm Jupyter kernel", p("hello, Prefer: wait") / p("peer: jupyter kernel"), 1.5, 1.0)
        bar("submit p95 / GET /health p95", p("submit", 95) / p("GET /health", 95), 4, 2.5)
        bar(
            "submit to terminal by long-poll / Prefer: wait",
            p("hello, submit and long-poll") / p("hello, Prefer: wait"),
            2.0,
            1.4,
        )
        self.client.end(hello)
        self.client.end(science)

    def settle(self, name: str, answer: Any) -> None:
        """A submission's run must not compete with the next case."""
        if name == "submit":
            self.client.call("GET", f"/api/v1/executions/{answer['execution_id']}/result?wait=60")

    def long_poll(self, session_id: str) -> None:
        """Submit, then wait for the result."""
        submitted = self.client.submit(session_id, HELLO, **EVENT)
        result = self.client.call("GET", f"/api/v1/executions/{submitted['execution_id']}/result?wait=60")
        if result["status"] != "success":
            raise RuntimeError(f"long-poll: {result}")

    def starts(self) -> None:
        """Sessions, warm and cold, beside `docker run`."""
        print("Starts")
        rounds = max(5, self.rounds // 5)
        ended: list[str] = []

        def warm_to_running() -> None:
            ended.append(self.client.session())

        def warm_to_result() -> None:
            ended.append(self.client.session())
            self.client.run(ended[-1], HELLO, **EVENT)

        def cold_to_running() -> None:
            ended.append(self.client.session(resources={"memory": "300Mi"}))

        def tidy() -> None:
            """Outside the measured time: end, and let the pool fill up again."""
            while ended:
                self.client.end(ended.pop())
            self.await_pool()

        peer = peers.DockerRun(self.image("python-basic"))
        cases = {
            "create (warm) to running": warm_to_running,
            "create (warm) to first result": warm_to_result,
            "create (cold) to running": cold_to_running,
            "peer: docker run (starts)": peer,
        }
        samples: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, case in cases.items():
                tidy()
                samples[name] += interleave({name: case}, 1, warm_up=0)[name]
        tidy()
        self.report.add(samples)
        p, bar = self.report.p, self.report.bar
        bar(
            "create (warm) to running, p50 / docker run",
            p("create (warm) to running") / p("peer: docker run (starts)"),
            0.15,
            0.08,
        )
        bar(
            "create (warm) to first result / docker run",
            p("create (warm) to first result") / p("peer: docker run (starts)"),
            0.25,
            0.12,
        )
        bar(
            "create (cold) to running / docker run",
            p("create (cold) to running") / p("peer: docker run (starts)"),
            1.5,
            1.2,
        )

    def await_images(self) -> None:
        """Until no image is being built: that takes the processor, and memory below the service."""

        def built() -> bool:
            templates = self.client.call("GET", "/api/v1/templates")["templates"]
            return all(one["status"] != "preparing" for one in templates)

        self.await_that(built, 900, "images are built")

    def await_copies(self) -> None:
        """Until nothing is owed to the storage."""
        self.await_that(lambda: self.operator.owed() == 0, 120, "nothing is owed to the storage")

    def await_pool(self) -> None:
        """Until two containers are warm, and nothing else is made or removed."""
        self.await_that(lambda: self.operator.pool() == (2, 0), 120, "the pool is full")

    def await_nothing_held(self) -> None:
        """Until ended sessions have given back all."""
        self.await_that(lambda: self.operator.held() == 0, 300, "ended sessions hold nothing")

    def settle_down(self) -> None:
        """Both, after work in bulk."""
        self.await_nothing_held()
        self.await_pool()

    def await_that(self, holds: Callable[[], bool], seconds: float, words: str) -> None:
        """Raises RuntimeError after so many seconds."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not so after {seconds:.0f} s: {words}")
            time.sleep(0.05)

    def service_cpu(self) -> float:
        """Seconds of processor time that our processes have taken so far, sandboxes and the engine left out."""
        return load.cpu_seconds(self.service.process.pid) if self.service.process else 0.0

    def metrics(self) -> bytes:
        """The text of /metrics."""
        import urllib.request

        with urllib.request.urlopen(f"{self.service.url}/metrics", timeout=30) as answer:
            return answer.read()

    def throughput(self, seconds: float) -> None:
        """Runs per second."""
        print("Throughput")
        sessions = [self.client.session(max_concurrency=16) for _ in range(4)]

        clients: list[Client] = []

        def make(number: int) -> Callable[[], object]:
            client, session_id = self.new_client(), sessions[number % 4]
            clients.append(client)
            return lambda: client.run(session_id, HELLO, **EVENT)

        rates = {}
        for concurrency in (1, 4, 16, 64):
            clients.clear()
            rates[concurrency] = load.throughput(make, concurrency, seconds)
            calls, runs = sum(client.calls for client in clients), sum(client.runs for client in clients)
            self.report.figure(f"runs at concurrency {concurrency}", rates[concurrency], "1/s")
            self.report.figure(f"requests per run at concurrency {concurrency}", calls / runs, "")
        self.report.bar("runs per second at concurrency 16", rates[16], 100, 200, at_least=True)
        self.report.bar("runs per second at concurrency 64 / 16", rates[64] / rates[16], 0.8, 1.0, at_least=True)
        for session_id in sessions:
            self.client.end(session_id)

    def sleepers(self, sessions: int, runs: int) -> None:
        """Hello while many runs sleep, and what each weighs outside its sandbox."""
        print(f"{sessions * runs} sleeping runs")
        # As an operator would in the console: who sleeps needs no core.
        self.operator.node(cpu_overcommit=float(sessions))
        hello = self.client.session()
        call = {"hello": lambda: self.client.run(hello, HELLO, **EVENT)}
        idle = percentile(interleave(call, self.rounds)["hello"], 50)
        held = [
            self.client.session(max_concurrency=16, resources={"memory": "256Mi", "cpu": "0.5"})
            for _ in range(sessions)
        ]
        root = self.service.process.pid if self.service.process else 0
        before = load.weight_mb(root)
        asleep = [
            self.client.submit(session_id, SLEEP, timeout=900, event={"seconds": 900})["execution_id"]
            for session_id in held
            for _ in range(runs)
        ]
        self.await_asleep(asleep)
        busy = percentile(interleave(call, self.rounds)["hello"], 50)
        each = (load.weight_mb(root) - before) / (sessions * runs)
        self.report.figure("hello while all sleep, p50", busy, "ms")
        self.report.figure("memory of ours per sleeping run", each, "MB")
        self.report.bar(f"hello p50 while {sessions * runs} runs sleep / idle", busy / idle, 1.5, 1.2)
        self.report.bar("memory of our processes per sleeping run, MB", each, 0.2, 0.05)
        for session_id in [*held, hello]:
            self.client.end(session_id)

    def await_asleep(self, executions: list[str]) -> None:
        """Until each has said so: a row is `running` before its process is."""
        deadline = time.monotonic() + 240
        for execution in executions:
            while "asleep" not in (self.client.call("GET", f"/api/v1/executions/{execution}/result")["stdout"] or ""):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not all of {len(executions)} runs started")
                time.sleep(0.2)

    def outputs(self) -> None:
        """Runs that print a lot: drained, the ends kept."""
        print("Output")
        session_id = self.client.session()
        for megabytes in (1, 10, 100):
            code = f"import sys\nfor _ in range({megabytes}):\n    sys.stdout.write('x' * 1048576)"
            samples = interleave(
                {f"output of {megabytes} MB": lambda code=code: self.client.run(session_id, code)}, 5, warm_up=1
            )
            self.report.add(samples)
        self.client.end(session_id)

    def idle_sandbox(self) -> None:
        """What a sandbox weighs that does nothing."""
        session_id = self.client.session()
        container = self.client.call("GET", f"/api/v1/sessions/{session_id}")["container_id"]
        stats = self.client.call("GET", f"/api/v1/containers/{container}/stats")
        self.report.figure("memory of an idle sandbox", stats["memory_bytes"] / 2**20, "MB")
        self.client.end(session_id)


PARTS: dict[str, Callable[[Bench, bool], None]] = {
    "runs": lambda bench, quick: bench.runs(),
    "starts": lambda bench, quick: bench.starts(),
    "cold": lambda bench, quick: cold.cold(bench, 5 if quick else 30),
    "safety": lambda bench, quick: safety.safety(bench, bench.rounds),
    "throughput": lambda bench, quick: bench.throughput(3 if quick else 10),
    "sleepers": lambda bench, quick: bench.sleepers(4 if quick else 32, 16),
    "outputs": lambda bench, quick: bench.outputs(),
    "idle": lambda bench, quick: bench.idle_sandbox(),
    "files": lambda bench, quick: files.measure(bench, quick),
    "ends": lambda bench, quick: ending.ends(bench, 5 if quick else 50),
    "burst": lambda bench, quick: burst.burst(bench, 10 if quick else 50),
    "crowd": lambda bench, quick: crowd.crowd(bench, 20 if quick else 200, bench.rounds),
    "leaks": lambda bench, quick: leaks.leaks(bench, 100 if quick else 1000),
}


def main() -> int:
    """The exit code: 0; bars that are missed are printed, not judged."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works")
    parser.add_argument("--runtime", default="docker", choices=("docker", "bubblewrap"))
    parser.add_argument("--only", default="", help=f"parts by commas: {','.join(PARTS)}")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else []
    rounds = 10 if options.quick else 100
    with ExitStack() as stack:
        url = stack.enter_context(postgres.server(durable=True))
        service = Service(options.runtime, DATABASE_URL=url)
        stack.callback(service.remove)
        service.start(seconds=900)
        operator = Operator(url)
        stack.callback(operator.close)
        bench = Bench(service, rounds, operator)
        bench.await_images()
        for name, part in PARTS.items():
            if not only or name in only:
                part(bench, options.quick)
        print(f"\n{bench.report.table()}\n\nRaw figures: {bench.report.write(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
