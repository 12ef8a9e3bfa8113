"""The child that is forked ahead: runs get it, are not charged for it, and do without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from executor import zygote
from executor.cli import parse
from executor.linux import seqpacket_pair
from tests import zygotes
from tests.api.client import eventually
from tests.executor.sandbox import Sandbox
from tests.executor.test_endings import COUNTED

WHO = "import os\ndef handler(event): return os.getpid()"


def asleep(pid: int) -> bool:
    """Whether it has nothing to do."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def waiting(sandbox: Sandbox) -> dict[int, int]:
    """The pid inside, by the host's pid, of the zygote's child while no run is under way; nothing until PID 1 has been told of it."""
    found = {}
    for pid in sandbox.processes(0):
        with suppress(OSError):  # it has ended meanwhile
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                if pid != sandbox.init and asleep(pid) and asleep(sandbox.init):
                    found[int(child)] = int(status.split("NSpid:")[1].split("\n")[0].split()[-1])
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
    eventually(lambda: outside not in waiting(sandbox))
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


@pytest.mark.parametrize("language", ["python", "shell"])
def test_a_run_whose_child_ends_before_it_takes_it_starts_anew_and_once(sandbox, language):
    (outside,) = eventually(lambda: waiting(sandbox))
    os.kill(outside, signal.SIGSTOP)
    stream = sandbox.start(COUNTED[language], language, event={"n": 1}, stdin=b"given")
    while stream.next()["t"] != "started":
        pass
    os.kill(outside, signal.SIGKILL)
    ended = stream.outcome()
    assert (ended.outcome, ended.value) == ("ok", {"n": 1, "stdin": "given"}), ended.result
    assert sandbox.file("GET", "starts").body == b"x"
    assert [event["t"] for event in ended.events].count("started") == 1
    assert "run_starts_anew" in sandbox.log


def test_the_time_of_such_a_run_counts_from_its_second_start(sandbox):
    (outside,) = eventually(lambda: waiting(sandbox))
    os.kill(outside, signal.SIGSTOP)
    stream = sandbox.start("import time\ntime.sleep(100)", timeout=1)
    while stream.next()["t"] != "started":
        pass
    os.kill(outside, signal.SIGKILL)
    ended = stream.outcome()
    assert ended.outcome == "timeout" and 1000 <= ended.duration_ms < 3000


def test_one_that_fails_on_its_own_account_does_not_end_well():
    code = """
import os
from executor import child, zygote
def fail():
    raise MemoryError
child.prepare = fail
from executor.linux import seqpacket_pair
ours, theirs = seqpacket_pair()
ahead = zygote.Ahead(None, ours)
ahead.fork()
print(os.waitstatus_to_exitcode(os.waitpid(ahead.pid, 0)[1]))
"""
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert said.stdout.strip() == "125", said.stderr


@pytest.fixture
def to_first():
    """The socket to PID 1."""
    ours, theirs = seqpacket_pair()
    with ours, theirs:
        yield ours


@pytest.fixture
def ahead(to_first):
    """Where runs see each other."""
    return zygote.Ahead(parse(["--apart"]), to_first)


def test_where_runs_see_each_other_it_waits_only_while_there_is_none(ahead):
    assert ahead.pause is not None
    ahead.make_way("wipe")
    assert ahead.pause is not None, "that is no user's code"
    ahead.taken(ahead.pid)
    assert ahead.pause is None, "others may be under way, and what this one left"
    ahead.runs_ended()
    assert ahead.pause is not None


def test_where_runs_see_each_other_it_is_gone_before_a_node_begins_and_for_good(ahead):
    ahead.fork()
    pid = ahead.pid
    ahead.make_way("javascript")
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    ahead.runs_ended()
    assert (ahead.pid, ahead.pause) == (0, None)


def test_elsewhere_it_waits_beside_runs(to_first):
    ahead = zygote.Ahead(parse([]), to_first)
    ahead.make_way("javascript")
    assert ahead.pause is not None


def test_a_run_that_goes_on_does_not_keep_the_next_one_from_waiting(sandbox):
    (taken,) = eventually(lambda: waiting(sandbox))
    stream = sandbox.start("import time\nprint('up')\ntime.sleep(100)", run_id="long")
    stream.until(b"up")
    assert eventually(lambda: set(waiting(sandbox)) - {taken})
    assert taken in waiting(sandbox), "it is running still"
    sandbox.request("POST", "/v1/runs/long/cancel")
    assert stream.outcome().outcome == "cancelled"


def test_it_ends_with_its_zygote(sandbox):
    (outside,) = eventually(lambda: waiting(sandbox))
    zygote = int(Path(f"/proc/{outside}/stat").read_text().rpartition(")")[2].split()[1])
    zygotes.kill(zygote)
    eventually(lambda: not Path(f"/proc/{outside}").exists())
    assert sandbox.run(WHO).value > 1


def test_one_that_is_killed_as_its_run_comes_leaves_that_to_another(sandbox):
    """Its socket is closed before PID 1 hears of its end: the zygote, which would tell, is stopped."""
    (outside,) = eventually(lambda: waiting(sandbox))
    zygote = int(Path(f"/proc/{outside}/stat").read_text().rpartition(")")[2].split()[1])
    zygotes.stop(zygote)
    stream = sandbox.start("def handler(event): return 1")
    os.kill(zygote, signal.SIGCONT)
    ended = stream.outcome()
    assert (ended.outcome, ended.value) == ("ok", 1)
    assert "run_starts_anew" not in sandbox.log
