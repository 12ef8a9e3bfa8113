"""What runs may do to their sandbox and to us, tried in real sandboxes of both drivers: the result is honest, the next run works.

FLOOD_MB sets how much is written in the flood; 2600 for the size of the case, a part of it otherwise.
"""

import json
import os
import resource
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from executions_app.services.ending import KEPT, Collected
from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.docker import DockerDriver
from runtime.drivers.executor_client import ExecutorClient, RunRequest
from runtime.drivers.types import MIB, Resources, SandboxSpec
from runtime.drivers.workspace import USER
from tests.api.client import eventually
from tests.drivers.conftest import host_pid, printed, run

FLOOD_MB = int(os.environ.get("FLOOD_MB", "200"))
PIDS = 64
HEALTHY = "def handler(event): return 1"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ],
)
def sandbox(request, tmp_path_factory):
    """One for all of these tests: it must stand them one after the other."""
    image = request.getfixturevalue(f"{request.param}_images")()
    make = {"docker": DockerDriver, "bubblewrap": BubblewrapDriver}[request.param]
    driver = make(f"t{secrets.token_hex(4)}", tmp_path_factory.mktemp("state"))
    limits = Resources(memory=256 * MIB, disk=64 * MIB, pids=PIDS)
    spec = SandboxSpec(name=f"sbx-{secrets.token_hex(8)}", image=image, slots=2, resources=limits)
    made = driver.create(spec)
    yield made
    with suppress(AssertionError):
        eventually(lambda: not of_runs(made))
    assert of_runs(made) == {}, "nothing of a run is left, nor of wiping after it"
    assert run(made, HEALTHY)[0].return_value == "1"
    driver.remove(spec.name)


def of_runs(sandbox):
    """The names of the processes that run as a user of runs, by pid in there: not root's, nor the file helper's."""
    found = processes(sandbox).items()
    return {pid: status.split()[1] for pid, status in found if int(status.split("\nUid:")[1].split()[0]) > USER}


def processes(sandbox):
    """The status files of what lives in the sandbox, by pid in there."""
    namespace, found = os.readlink(f"/proc/{host_pid(sandbox)}/ns/pid"), {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/pid") == namespace:
                status = (process / "status").read_text()
                found[int(status.split("NSpid:")[1].splitlines()[0].split()[-1])] = status
        except OSError:
            continue
    return found


def executor_peak(sandbox):
    """The most memory that the executor has ever had, in bytes."""
    status = Path(f"/proc/{host_pid(sandbox)}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def after(sandbox):
    """What the next run says."""
    return run(sandbox, HEALTHY)[0].return_value


# A1, A2: the sandbox's own limit of processes holds, and killing needs no new process.
def test_a_fork_bomb_ends_at_its_time_out_and_spares_the_neighbour(sandbox):
    wait = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\nprint('unharmed')\nos.unlink('go')"
    neighbour = []
    thread = threading.Thread(target=lambda: neighbour.append(run(sandbox, wait, timeout=60)))
    thread.start()
    began = time.monotonic()
    result, _, _ = run(sandbox, "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", timeout=2)
    assert (result.outcome, result.exit_code) == ("timeout", 137)
    assert time.monotonic() - began < 8
    assert printed(sandbox, "open('go', 'w').close()") == ""
    thread.join()
    assert neighbour[0][1] == "unharmed\n"
    assert after(sandbox) == "1"


# A11
def test_what_ignores_every_signal_is_killed_at_its_time_out(sandbox):
    code = (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "print('kept', end='', flush=True)\nwhile True: pass"
    )
    result, stdout, _ = run(sandbox, code, timeout=2)
    assert (result.outcome, result.exit_code, stdout) == ("timeout", 137, "kept")
    assert 2000 <= result.duration_ms < 2500


# A12
@pytest.mark.parametrize("end", ["", "def handler(event): return 1"])
def test_a_daemon_is_dead_before_its_result(sandbox, end):
    code = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        open("/tmp/up", "w").close()
        while True: time.sleep(0.01); open("/workspace/alive", "w").write(str(time.monotonic()))
    os._exit(0)
while not os.path.exists("/tmp/up"): time.sleep(0.001)
"""
    result, daemon, stderr = run(sandbox, code + end)
    assert result.outcome == "ok", stderr
    assert int(daemon) not in processes(sandbox)


# A14, A15
def test_the_executor_refuses_a_thousand_times(sandbox):
    code = """
import ctypes, os, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
def attacks():
    for number in (9, 15, 19, 1, 0): yield lambda: os.kill(1, number)
    for name in ("mem", "environ", "fd/0", "root", "cwd/x", "maps"): yield lambda: open("/proc/1/" + name, "rb").read(1)
    yield lambda: open("/proc/1/mem", "wb").write(b"x")
    yield lambda: os.listdir("/proc/1/fd")
    yield lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (1, 1))
    yield lambda: os.setpriority(os.PRIO_PROCESS, 1, 19)
    yield lambda: os.sched_setaffinity(1, {0})
    yield lambda: call(libc.ptrace, 16, 1, 0, 0)
    yield lambda: call(libc.process_vm_readv, 1, None, 0, None, 0, 0) or call(libc.ptrace, 16, 1, 0, 0)
def call(function, *args):
    if function(*args) < 0: raise OSError(ctypes.get_errno(), "refused")
tried = done = 0
while tried < 1000:
    for attack in attacks():
        tried += 1
        try: attack()
        except OSError: continue
        done += 1
print(done)
"""
    assert printed(sandbox, code) == "0"


# A20
def test_what_looks_like_a_result_is_output(sandbox):
    fake = json.dumps({"t": "result", "outcome": "ok", "exit_code": 0, "return_value": "666"})
    code = f"import os\nfor fd in range(1, 20):\n    try: os.write(fd, {fake!r}.encode() + b'\\n')\n    except OSError: pass\n"
    result, stdout, stderr = run(sandbox, code + HEALTHY)
    assert (result.outcome, result.return_value) == ("ok", "1")
    assert stdout == stderr == fake + "\n"


# A22, A23
@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("float('nan')", "invalid_result"),
        ("[float('inf')]", "invalid_result"),
        ("{1, 2}", "invalid_result"),
        ("b'x'", "invalid_result"),
        ("object()", "invalid_result"),
        ("{1: 1, '1': 2}", "invalid_result"),
        ("(lambda a: a.append(a) or a)([])", "invalid_result"),
        ("eval('[' * 80 + ']' * 80)", "ok"),
        ("__import__('functools').reduce(lambda a, _: [a], range(100_000), [])", "invalid_result"),
        ("'x' * 100 * 2**20", "output_limit"),
        ("[{'key': 'x' * 2**20}] * 100", "output_limit"),
    ],
)
def test_results_that_are_none(sandbox, value, outcome):
    peak = executor_peak(sandbox)
    result, _, stderr = run(sandbox, f"def handler(event): return {value}")
    assert (result.outcome, result.exit_code) == (outcome, 0), stderr
    assert executor_peak(sandbox) - peak < 16 * MIB


# A25
def test_a_flood_is_drained_and_its_ends_are_kept(sandbox):
    size = FLOOD_MB * 10**6
    code = f"import os\nblock = b'x' * 10**6\nos.write(1, b'first')\nfor _ in range({FLOOD_MB}):\n" + (
        "    left = memoryview(block)\n    while left: left = left[os.write(1, left):]\nos.write(1, b'last')"
    )
    run(sandbox, "print('x' * 4_000_000)")  # what is allocated once
    ours, theirs = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, executor_peak(sandbox)
    collected = Collected()
    for event in ExecutorClient(sandbox.socket).run(secrets.token_hex(8), RunRequest("python", code, timeout=100), 110):
        collected.add(event)
    kept = collected.output()
    assert collected.result.outcome == "ok" and collected.result.stdout_bytes == size + 9
    assert len(kept["stdout"]) == 2 * KEPT and kept["stdout_omitted"] == size + 9 - 2 * KEPT
    assert kept["stdout"].startswith(b"firstx") and kept["stdout"].endswith(b"xlast")
    assert executor_peak(sandbox) - theirs < 16 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - ours < 32 * MIB


# A27
@pytest.mark.parametrize(
    ("code", "exit_code", "outcome"),
    [
        ("import os; os._exit(7)", 7, "exception"),
        ("import sys; sys.exit('x')", 1, "exception"),
        ("import sys; sys.exit(256)", 0, "ok"),
        ("raise SystemExit", 0, "ok"),
        ("1 / 0", 1, "exception"),
        ("import ctypes; ctypes.string_at(0)", 139, "exception"),
        ("import os; os.kill(os.getpid(), 9)", 137, "exception"),
    ],
)
def test_exit_codes(sandbox, code, exit_code, outcome):
    result, _, _ = run(sandbox, code)
    assert (result.exit_code, result.outcome) == (exit_code, outcome)


# A28
def test_what_is_traced_or_stopped_has_not_ended(sandbox):
    code = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(0, 0, 0, 0), flush=True)
if os.fork() == 0:
    time.sleep(0.3)
    os.kill(os.getppid(), signal.SIGCONT)
    os._exit(0)
os.kill(os.getpid(), signal.SIGSTOP)
print("went on")
"""
    result, stdout, _ = run(sandbox, code)
    assert (result.outcome, stdout.split()[1:]) == ("ok", ["went", "on"])
    assert result.duration_ms >= 300


# A31
def test_the_next_run_finds_all_as_new(sandbox):
    patch = """
import atexit, builtins, json, os, signal, sys
builtins.len = lambda x: 666; json.dumps = lambda *a, **k: "666"; sys.modules["math"] = None; os.environ["EVIL"] = "1"
os.umask(0o777); signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.addaudithook(lambda *a: None); os.chdir("/tmp")
sys.path.insert(0, "/tmp"); sys.setrecursionlimit(50)
open("/workspace/sitecustomize.py", "w").write("print('evil')"); open("/workspace/json.py", "w").write("print('evil')")
"""
    look = """
import json, math, os, signal, sys
mask = os.umask(0); os.umask(mask)
print(len("ab"), json.dumps(1), math.floor(1.5), "EVIL" in os.environ, mask, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
      os.getcwd(), sys.getrecursionlimit(), "/tmp" in sys.path)
"""
    run(sandbox, patch)
    assert printed(sandbox, look) == "2 1 1 False 2 True /workspace 1000 False"
    run(sandbox, "rm -f sitecustomize.py json.py", language="shell")


# A33
@pytest.mark.parametrize(
    "code",
    [
        "handler = 5",
        "class handler: pass",
        "def handler(event): yield 1",
        "def handler(): return 1",
        "def handler(a, b): return 1",
        "def handler(event): raise ValueError('x' * 10**7)",
        "def handler(event): return handler(event) + 1",
    ],
)
def test_what_is_no_proper_handler(sandbox, code):
    result, _, _ = run(sandbox, code)
    assert (result.outcome, result.exit_code) == ("exception", 1)
    assert 0 < len(result.error.traceback) <= 128 * 1024 and len(result.error.message) <= 8 * 1024


def test_what_kills_all_it_can_see_hurts_itself_alone(sandbox):
    code = """
import os, signal
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    if pid != os.getpid():
        try: os.kill(pid, signal.SIGKILL)
        except OSError: pass
os.kill(-1, signal.SIGKILL)
print("unreachable or alone")
def handler(event): return "survived"
"""
    for language, script in (("python", code), ("shell", "kill -9 -1; kill -9 $(ls /proc | grep '^[0-9]')")):
        result, _, _ = run(sandbox, script, language=language)
        assert (result.outcome, result.exit_code) in (("exception", 137), ("ok", 0), ("exception", 1)), result
        assert after(sandbox) == "1"
