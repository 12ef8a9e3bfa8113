"""The child that is forked ahead: runs get it, are not charged for it, and do without it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.api.client import eventually
from tests.executor.sandbox import Sandbox

WHO = "import os\ndef handler(event): return os.getpid()"


def waiting(sandbox: Sandbox) -> dict[int, int]:
    """The pid inside, by the host's pid, of the zygote's child while no run is under way."""
    found = {}
    for pid in sandbox.processes(0):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if pid != sandbox.init:
                found[int(child)] = int(
                    Path(f"/proc/{child}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1]
                )
    return found


def test_a_run_gets_the_child_that_waits_and_the_next_one_another(sandbox):
    seen = []
    for _ in range(3):
        (inside,) = eventually(lambda: waiting(sandbox)).values()
        seen.append(inside)
        assert sandbox.run(WHO).value == inside
    assert len(set(seen)) == 3


def test_without_it_a_run_gets_a_child_of_its_own(sandbox):
    (outside,) = eventually(lambda: waiting(sandbox))
    os.kill(outside, signal.SIGKILL)
    assert sandbox.run(WHO).value > 1
    assert eventually(lambda: waiting(sandbox)), "another is forked"


def test_a_run_is_not_charged_for_what_was_done_before_it_came(sandbox):
    (outside,) = eventually(lambda: waiting(sandbox))
    os.kill(outside, signal.SIGSTOP)  # what it has used by now is all that it uses before its run
    used = sum(int(n) for n in Path(f"/proc/{outside}/schedstat").read_text().split()[:1]) / 1e6
    os.kill(outside, signal.SIGCONT)
    code = "import time\ndef handler(event): return time.process_time() * 1000"
    ended = sandbox.run(code)
    assert ended.value >= used, "its own clock counts it"
    assert ended.cpu_time_ms <= ended.value - used + 5, "the run's does not: what is added is the end of the process"
