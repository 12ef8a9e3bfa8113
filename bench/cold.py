"""Cold starts: a session that no warm container can serve, beside `docker run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import peers
from bench.figures import interleave

if TYPE_CHECKING:
    from bench.__main__ import Bench

COLD, PEER = "create (cold) to running", "peer: docker run (beside cold starts)"


def cold(bench: Bench, rounds: int) -> None:
    """Another size of disk can't be given to a container that is up."""
    print("Cold starts")
    ended: list[str] = []

    def tidy(name: str, answer: object) -> None:
        while ended:
            bench.client.end(ended.pop())
        bench.await_nothing_held()
        bench.await_pool()

    cases = {
        COLD: lambda: ended.append(bench.client.session(resources={"disk": "2Gi"})),
        PEER: peers.DockerRun(bench.image("python-basic")),
    }
    spent = bench.service_cpu()
    bench.report.add(interleave(cases, rounds, warm_up=1, settle=tidy))
    print(f"  processor time of our processes: {(bench.service_cpu() - spent) * 1000 / (rounds + 1):.0f} ms a session")
    ratio = bench.report.p(COLD) / bench.report.p(PEER)
    bench.report.bar("create of another disk size (cold) to running / docker run", ratio, 1.5, 1.2)
