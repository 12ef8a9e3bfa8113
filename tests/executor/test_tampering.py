"""User code can't reach, stop, slow down, read or impersonate the executor."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile

import pytest

from executor import linux
from tests.executor.sandbox import Sandbox, UnixConnection

ATTACKS = {
    "kill": "os.kill(1, 9)",
    "stop": "os.kill(1, 19)",
    "terminate": "os.kill(1, 15)",
    "probe": "os.kill(1, 0)",
    "kill the zygote": "os.kill(helper(0), 9)",
    "kill the file helper": "os.kill(helper(20000), 9)",
    "read memory": "open('/proc/1/mem', 'rb')",
    "write memory": "open('/proc/1/mem', 'r+b')",
    "environ": "open('/proc/1/environ').read()",
    "descriptors": "os.listdir('/proc/1/fd')",
    "maps": "open('/proc/1/maps').read()",
    "root": "os.listdir('/proc/1/root')",
    "cwd": "os.listdir('/proc/1/cwd')",
    "ptrace": "ptrace(16, 1)",
    "seize": "ptrace(0x4206, 1)",
    "prlimit": "resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))",
    "priority": "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "affinity": "os.sched_setaffinity(1, {0})",
    "scheduler": "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "oom score": "open('/proc/1/oom_score_adj', 'w').write('1000')",
    "connect": "socket.socket(socket.AF_UNIX).connect('/run/sbx/executor.sock')",
    "list sockets": "os.listdir('/run/sbx')",
    "unlink": "os.unlink('/run/sbx/executor.sock')",
    "rename": "os.rename('/run/sbx', '/run/other')",
    "replace": "os.symlink('/etc', '/run/sbx/x')",
    "chmod": "os.chmod('/run/sbx', 0o777)",
    "become root": "os.setuid(0)",
    "become a neighbour": "os.setuid(20002)",
    "become the helper": "os.setgroups([0])",
    "write our code": "open('/opt/sandbox/executor/boot.py', 'a')",
}
TRY = """
import ctypes, os, resource, socket
def ptrace(request, pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), 'ptrace')
def helper(uid):
    return next(p for p in range(2, 10) if os.path.exists(f'/proc/{p}') and os.stat(f'/proc/{p}').st_uid == uid)
def handler(event):
    refused = 0
    for _ in range(event['times']):
        try:
            eval(event['attack'])
        except OSError as error:
            refused += 1
    return refused
"""


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_every_attack_is_refused_every_time(shared, attack):
    assert shared.run(TRY, event={"attack": attack, "times": 1000}).value == 1000
    assert shared.health()["state"] == "ready"


def test_a_run_cannot_touch_its_neighbour(shared):
    victim = shared.start("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(1000)", run_id="victim")
    victim.until(b"\n")
    pid = int(__import__("base64").b64decode(victim.events[-2 if victim.events[-1]["d"] == "Cg==" else -1]["d"]))
    attacks = [
        f"os.kill({pid}, 9)",
        f"open('/proc/{pid}/mem', 'rb')",
        f"ptrace(16, {pid})",
        f"open('/proc/{pid}/environ').read()",
    ]
    for attack in attacks:
        assert shared.run(TRY, event={"attack": attack, "times": 10}).value == 10, attack
    shared.request("POST", "/v1/runs/victim/cancel")
    assert victim.outcome().outcome == "cancelled"


def test_sigterm_hammered_by_the_user_does_not_end_the_executor(sandbox):
    """While PID 1 sweeps, it wears the user's uid and could be signalled: it must not listen then."""
    code = (
        "import os\nfor _ in range(3):\n    if os.fork() == 0:\n        while True:\n"
        "            try: os.kill(1, 15)\n            except OSError: pass\n"
    )
    for _ in range(20):
        assert sandbox.run(code + "def handler(e): return 1").value == 1


def test_a_peer_inside_is_refused_before_a_byte_is_read(sandbox):
    if not shutil.which("nsenter"):
        pytest.skip("nsenter is missing")
    script = (
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('/run/sbx/executor.sock')\n"
        "try: s.sendall(b'GET /v1/health HTTP/1.1\\r\\n\\r\\n'); print(s.recv(100))\nexcept OSError as e: print(b'')"
    )
    inside = ["nsenter", "-t", str(sandbox.init), "-p", "-m", "/usr/bin/python3", "-c", script]
    assert subprocess.run(inside, capture_output=True, text=True, timeout=20).stdout == "b''\n"
    assert "peer_refused" in sandbox.log


def test_no_secret_is_in_any_environment(shared):
    code = (
        "import glob\ndef handler(e):\n    found = ''\n    for path in glob.glob('/proc/[0-9]*/environ'):\n"
        "        try: found += open(path).read()\n        except OSError: pass\n    return found"
    )
    found = shared.run(code).value
    assert not re.search(r"TOKEN|KEY|PASSWORD|SECRET|AWS_|DATABASE_URL|DOCKER", found)


def test_the_log_holds_no_code_env_event_or_output(make_sandbox):
    sandbox = make_sandbox("--log-level", "debug")
    sandbox.run(
        "print('hush-out')\ndef handler(e): raise ValueError('hush-err')",
        env={"A": "hush-env"},
        event="hush-event",
        args=["hush-arg"],
    )
    assert "hush" not in sandbox.log
    lines = [json.loads(line) for line in sandbox.log.splitlines()]
    assert all({"time", "level", "event"} <= line.keys() for line in lines)


def test_user_code_holds_no_privilege_no_core_and_no_descriptor_of_ours(shared):
    code = (
        "import os, resource\ndef handler(e):\n    s = dict(l.split(':', 1) for l in open('/proc/self/status'))\n"
        "    return {'caps': int(s['CapEff'], 16) | int(s['CapPrm'], 16), 'nnp': int(s['NoNewPrivs']), 'groups': os.getgroups(),\n"
        "            'ids': [*os.getresuid(), *os.getresgid()], 'core': resource.getrlimit(resource.RLIMIT_CORE),\n"
        "            'oom': int(open('/proc/self/oom_score_adj').read()), 'sid': os.getsid(0) == os.getpid(),\n"
        "            'fds': sorted(map(int, os.listdir('/proc/self/fd')))[:-1]}"
    )
    seen = shared.run(code).value
    assert seen["caps"] == 0 and seen["nnp"] == 1 and seen["groups"] in ([], [20000])
    assert seen["ids"] == [20001] * 3 + [20000] * 3 and seen["core"] == [0, 0]
    assert seen["oom"] == 1000 and seen["sid"]
    assert [fd for fd in seen["fds"] if fd > 2 and fd != 200] in ([], [3])


def test_attestation_tells_what_the_sandbox_is(shared):
    told = shared.health()["attestation"]
    assert told["pid"] == 1 and told["uid"] == 0 and told["groups"] == [] and told["user_uid"] == 20000
    assert told["cap_eff"] == told["cap_prm"] == "00000000000000e0"
    assert int(told["cap_bnd"], 16) & 0xE0 == 0xE0  # what more there is depends on who started us
    assert told["no_new_privs"] == 1 and told["rootfs_read_only"] is True and told["interfaces"] == ["lo"]
    assert "/workspace" in {mount["target"] for mount in told["mounts"]}


def test_a_runs_request_can_be_opened_by_no_other_run():
    """Where /proc shows descriptors to everybody, its mode is what holds."""
    fd = linux.private_file(b"request")
    try:
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600 and os.pread(fd, 10, 0) == b"request"
    finally:
        os.close(fd)


def test_calls_that_a_process_refuses_itself():
    pid = os.fork()
    if pid == 0:
        try:
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            libc = ctypes.CDLL(None, use_errno=True)
            before = libc.unshare(0)
            linux.refuse_calls("mount", "unshare")
            after, why = libc.unshare(0), ctypes.get_errno()
            mounted = libc.mount(None, None, None, 0, None), ctypes.get_errno()
            other = os.getppid() > 0
            right = (before, after, why, mounted, other) == (0, -1, errno.EPERM, (-1, errno.EPERM), True)
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


def test_what_only_gvisor_may_be_given_is_used_on_no_other_kernel(bubblewrap, tmp_path, monkeypatch):
    """An engine may call another runtime `runsc`: the executor looks at the kernel, and is gone before it serves anybody."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="not_gvisor"):
        Sandbox("--apart")


def test_a_socket_that_was_left_behind_is_replaced_and_open_to_owner_and_group_only(sandbox):
    assert os.stat(sandbox.socket).st_mode & 0o777 == 0o660
    assert UnixConnection(sandbox.socket)


def test_the_executor_is_not_slowed_down_at_the_moment_of_its_sweep(sandbox):
    """A process that PID 1 shares a uid with may change its priority: there must be none when it wears that uid."""
    code = (
        "import os\nfor _ in range(3):\n    if os.fork() == 0:\n        while True:\n"
        "            try: os.setpriority(os.PRIO_PROCESS, 1, 19)\n            except OSError: pass\n"
        "            try: os.sched_setaffinity(1, {0})\n            except OSError: pass\n"
    )
    for _ in range(30):
        assert sandbox.run(code + "def handler(e): return 1").value == 1
    assert os.getpriority(os.PRIO_PROCESS, sandbox.init) == os.getpriority(os.PRIO_PROCESS, 0)
    assert os.sched_getaffinity(sandbox.init) == os.sched_getaffinity(0)
