"""However a run ends, nothing of it is alive when its result is given, and its neighbours don't notice."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from executor import claim
from tests import zygotes
from tests.executor.sandbox import Sandbox

SLOT = range(20001, 20017)
BOMB = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"


def alive(sandbox: Sandbox) -> list[int]:
    return [pid for uid in SLOT for pid in sandbox.processes(uid)]


@contextmanager
def cgroup(controller: str, **limits: str):
    """A folder of a v1 controller; skips where the machine has none."""
    root = Path("/sys/fs/cgroup") / controller
    if not os.access(root / "cgroup.procs", os.W_OK):
        pytest.skip(f"no writable cgroup v1 {controller} controller")
    folder = root / f"sbx-test-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        for name, value in limits.items():
            (folder / name.replace("__", ".")).write_text(value)
        yield str(folder)
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        deadline = time.monotonic() + 10
        while (folder / "cgroup.procs").read_text() and time.monotonic() < deadline:
            pass  # its last processes are being reaped
        folder.rmdir()


def test_deadline_kills_what_ignores_every_signal(sandbox):
    code = (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "print('kept', flush=True)\nwhile True: pass"
    )
    begin = time.monotonic()
    ended = sandbox.run(code, timeout=1)
    assert time.monotonic() - begin < 1.5
    assert (ended.outcome, ended.exit_code, ended.stdout) == ("timeout", 137, "kept\n")
    assert alive(sandbox) == []


DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        print('daemon', flush=True)
        open('/workspace/up', 'w').close()
        time.sleep(1000)
    os._exit(0)
while not os.path.exists('/workspace/up'): time.sleep(0.001)
"""


@pytest.mark.parametrize("end", ["", "def handler(e): return 1", "os._exit(0)", "raise ValueError"])
def test_a_daemon_is_dead_before_the_result(sandbox, end):
    stream = sandbox.start(DAEMON + end)
    while stream.next()["t"] != "result":
        pass
    assert alive(sandbox) == []
    assert stream.outcome().stdout == "daemon\n"


def test_a_fork_bomb_at_the_pids_limit_ends_at_its_deadline_and_spares_the_neighbour(make_sandbox):
    with cgroup("pids", pids__max="64") as folder:
        sandbox = make_sandbox(cgroups=(folder,))
        wait = "import os, time\nprint('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('unharmed')"
        neighbour = sandbox.start(wait, timeout=60, run_id="w")
        neighbour.until(b"up\n")
        begin = time.monotonic()
        ended = sandbox.run(BOMB, timeout=2)
        assert ended.outcome == "timeout"
        assert time.monotonic() - begin < 2.5
        assert sandbox.processes(20002) == []
        assert sandbox.health()["state"] == "ready"
        assert sandbox.file("PUT", "go", b"").status == 200
        assert neighbour.outcome().stdout.endswith("unharmed\n")
        assert sandbox.run("def handler(e): return 1").value == 1
        sandbox.close()


def test_with_every_pid_taken_files_are_served_a_run_is_cancelled_and_another_is_told_to_be_lost(make_sandbox):
    with cgroup("pids", pids__max="40") as folder:
        sandbox = make_sandbox(cgroups=(folder,))
        full = "import os, time\nwhile True:\n    try:\n        if os.fork() == 0: time.sleep(1000)\n    except OSError: break\n"
        stream = sandbox.start(full + "print('full', flush=True)\ntime.sleep(1000)", run_id="bomb")
        stream.until(b"full")
        assert sandbox.file("PUT", "a.txt", b"data").status == 200
        assert sandbox.file("GET", "a.txt").body == b"data"
        holder = sandbox.start("import time\ntime.sleep(1000)", run_id="holder")
        # It may get the child that was forked ahead; then there is none for the next one.
        lost = sandbox.run("pass") if holder.next()["t"] == "started" else holder.outcome()
        assert (lost.outcome, lost.exit_code) == ("lost", None) and "has not begun" in lost.error["message"]
        sandbox.request("POST", "/v1/runs/holder/cancel")
        holder.outcome()
        assert sandbox.request("POST", "/v1/runs/bomb/cancel").status == 202
        assert stream.outcome().outcome == "cancelled"
        assert alive(sandbox) == []
        assert sandbox.run("def handler(e): return 1").value == 1
        sandbox.close()


def test_running_out_of_memory_is_told_apart_and_the_next_run_succeeds(make_sandbox):
    limit = str(96 * 1024 * 1024)
    with cgroup("memory", memory__limit_in_bytes=limit) as folder:
        sandbox = make_sandbox(binds=("--ro-bind", folder, "/sys/fs/cgroup/memory"), cgroups=(folder,))
        ended = sandbox.run("x = []\nwhile True: x.append(bytearray(10**6))")
        assert (ended.outcome, ended.exit_code) == ("oom", 137)
        assert sandbox.run("import os; os.kill(os.getpid(), 9)").outcome == "exception"
        assert sandbox.run("def handler(e): return 1").value == 1
        sandbox.close()


def test_where_memory_is_short_the_executor_is_the_last_to_go(sandbox):
    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    helpers = Path(f"/proc/{sandbox.init}/task/{sandbox.init}/children").read_text().split()
    assert len(helpers) >= 2
    assert {score(int(pid)) for pid in helpers} == {score(sandbox.init) + 100}
    assert sandbox.run("def handler(e): return int(open('/proc/self/oom_score_adj').read())").value == 1000


def test_running_out_of_descriptors_hurts_user_code_alone(sandbox):
    code = (
        "import errno, time\nfs = []\ndef fill():\n    try:\n        while True: fs.append(open('/dev/null'))\n"
        "    except OSError as e: return e.errno == errno.EMFILE\nprint(fill(), flush=True)\ntime.sleep(1000)"
    )
    stream = sandbox.start(code, run_id="fds")
    stream.until(b"True")
    assert sandbox.run("def handler(e): return 1").value == 1
    sandbox.request("POST", "/v1/runs/fds/cancel")
    assert stream.outcome().outcome == "cancelled"


def test_cancel_kills_and_says_so_and_can_be_repeated(sandbox):
    stream = sandbox.start("import time\nprint('up', flush=True)\ntime.sleep(1000)", run_id="c")
    stream.until(b"up\n")
    assert sandbox.request("POST", "/v1/runs/c/cancel").status == 202
    ended = stream.outcome()
    assert (ended.outcome, ended.exit_code, ended.stdout) == ("cancelled", 137, "up\n")
    assert sandbox.request("POST", "/v1/runs/c/cancel").status == 200


def test_runs_overlap_in_slots_of_their_own_and_one_too_many_is_refused(make_sandbox):
    sandbox = make_sandbox("--slots", "2")
    code = "import os, time\nprint(os.getuid(), flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
    streams = [sandbox.start(code, run_id=name) for name in "ab"]
    streams[0].until(b"20001")
    streams[1].until(b"20002")
    busy = sandbox.start("pass")
    assert busy.status == 429
    sandbox.file("PUT", "go", b"")
    assert [stream.outcome().outcome for stream in streams] == ["ok", "ok"]


def test_scratch_is_wiped_when_no_run_is_active_however_deep(sandbox):
    code = (
        "import os\nfor top in ('/tmp', '/dev/shm'):\n"
        "    open(top + '/file', 'w').close()\n    os.mkfifo(top + '/fifo')\n    os.symlink('/workspace', top + '/link')\n"
        "    os.makedirs(top + '/a/b/c')\n    os.chmod(top + '/a/b', 0)\n"
        "os.chdir('/tmp')\nfor n in range(5000):\n    os.mkdir('d')\n    os.chdir('d')\n"
    )
    sandbox.file("PUT", "kept.txt", b"x")
    assert sandbox.run(code).outcome == "ok"
    look = "import os\ndef handler(e): return os.listdir('/tmp') + os.listdir('/dev/shm')"
    assert sandbox.run(look).value == []
    assert sandbox.file("GET", "kept.txt").status == 200


def test_a_full_scratch_folder_does_not_wedge_the_sandbox(sandbox):
    code = (
        "def handler(e):\n    try:\n        f = open('/tmp/x', 'wb')\n        while True: f.write(b'x' * 2**20)\n"
        "    except OSError as x: return x.errno"
    )
    assert sandbox.run(code).value == 28
    assert sandbox.run("echo 1 > $SANDBOX_RESULT", "shell").value == 1


@pytest.mark.parametrize("role", ["zygote", "files"])
def test_a_helper_that_dies_is_replaced_and_running_code_is_followed_to_its_end(sandbox, role):
    stream = sandbox.start(
        "import os, time\nprint('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('end')"
    )
    stream.until(b"up\n")
    uid = 0 if role == "zygote" else 20000
    children = Path(f"/proc/{sandbox.init}/task/{sandbox.init}/children").read_text().split()
    victim = next(int(pid) for pid in children if os.stat(f"/proc/{pid}").st_uid == uid)
    os.kill(victim, 9)
    while sandbox.log.count('"ready"') < 2 if role == "zygote" else "helper_died" not in sandbox.log:
        sandbox.health()
    while sandbox.file("PUT", "go", b"").status != 200:
        pass
    ended = stream.outcome()
    assert (ended.outcome, ended.stdout, ended.exit_code) == ("ok", "up\nend\n", 0)
    assert ended.peak_memory_mb > 1
    assert sandbox.run("def handler(e): return 1").value == 1


def zygote_of(sandbox: Sandbox) -> int:
    """Its pid on the host; 0 while there is none."""
    for pid in Path(f"/proc/{sandbox.init}/task/{sandbox.init}/children").read_text().split():
        with suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == 0 and ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                return int(pid)
    return 0


def await_asked(sandbox: Sandbox) -> None:
    """Until the zygote has been handed a request: PID 1 keeps it while it knows of no process."""
    folder = Path(f"/proc/{sandbox.init}/fd")
    while not any(os.readlink(fd).startswith("/memfd:run") and fd.stat().st_size for fd in folder.iterdir()):
        sandbox.health()


def test_a_run_that_comes_while_a_dead_zygote_is_replaced_waits_for_the_new_one(sandbox):
    assert sandbox.run("def handler(e): return 0").value == 0
    zygotes.kill(zygote_of(sandbox))
    for number in range(20):
        ended = sandbox.run(f"def handler(e): return {number}")
        assert (ended.outcome, ended.value) == ("ok", number), ended.result
    assert "helper_died" in sandbox.log


COUNTED = {
    "python": "open('starts', 'a').write('x')\ndef handler(e): return {**e, 'stdin': __import__('sys').stdin.read()}",
    "shell": 'printf x >> starts\nprintf \'{"n": 1, "stdin": "%s"}\' "$(cat)" > $SANDBOX_RESULT',
    "javascript": "require('fs').appendFileSync('starts', 'x')\n"
    "function handler(e) { return {...e, stdin: require('fs').readFileSync(0, 'utf8')} }",
}


@pytest.mark.parametrize("language", COUNTED)
def test_a_run_whose_zygote_dies_as_it_is_asked_starts_anew_and_once(sandbox, language):
    """The zygote is stopped, so that it has been asked and has done nothing, and is then killed."""
    zygotes.stop(zygote_of(sandbox))
    stream = sandbox.start(COUNTED[language], language, event={"n": 1}, stdin=b"given")
    await_asked(sandbox)
    zygotes.kill(zygote_of(sandbox))
    ended = stream.outcome()
    assert (ended.outcome, ended.value) == ("ok", {"n": 1, "stdin": "given"}), ended.result
    assert "run_starts_anew" in sandbox.log
    assert sandbox.file("GET", "starts").body == b"x"


def test_a_run_whose_zygotes_all_die_is_lost_and_says_that_its_code_has_not_begun(sandbox):
    zygotes.stop(zygote_of(sandbox))
    stream = sandbox.start(COUNTED["python"], run_id="r")
    await_asked(sandbox)
    ended = threading.Thread(target=stream.outcome)
    ended.start()
    while ended.is_alive():  # each new one while it still imports what runs need
        if pid := zygote_of(sandbox):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    result = stream.events[-1]
    assert (result["outcome"], result["exit_code"]) == ("lost", None)
    assert result["error"]["message"].endswith("user code has not begun")
    assert sandbox.file("GET", "starts").status == 404
    assert sandbox.run("def handler(e): return 1").value == 1


def test_a_request_is_taken_by_its_process_or_taken_back_never_both():
    """Two processes go through the same requests from both ends, and meet."""
    requests = [os.memfd_create("run") for _ in range(400)]
    for request in requests:
        os.write(request, b"{}")
    start, (read, write) = os.eventfd(0), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(start, 8)
        os.write(write, bytes(bool(claim.take(request)) for request in requests))
        os._exit(0)
    os.eventfd_write(start, 1)
    back = [claim.take_back(request) for request in reversed(requests)][::-1]
    taken = [bool(byte) for byte in os.read(read, len(requests))]
    os.waitpid(child, 0)
    for fd in (*requests, start, read, write):
        os.close(fd)
    assert len(taken) == len(back)
    assert all(one != other for one, other in zip(taken, back, strict=True))
    assert any(back), "PID 1 was first with some"


def test_a_run_is_cancelled_while_it_waits_for_a_zygote(sandbox):
    zygotes.kill(zygote_of(sandbox))
    stream = sandbox.start("import time\ntime.sleep(100)", run_id="c")
    assert sandbox.request("POST", "/v1/runs/c/cancel").status == 202
    assert stream.outcome().outcome == "cancelled"
    assert sandbox.run("def handler(e): return 1").value == 1


def test_sigterm_from_outside_ends_the_executor_cleanly(sandbox):
    os.kill(sandbox.init, 15)
    assert sandbox.process.wait(timeout=10) == 0


def test_it_refuses_to_start_without_a_pid_namespace_of_its_own(bubblewrap):
    import subprocess

    from tests.executor.sandbox import EXECUTOR

    ended = subprocess.run(["/usr/bin/python3", "-I", str(EXECUTOR)], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 2 and "not_pid_1" in ended.stderr
