"""The cases about containment, each as code that tries it from inside. What goes through is printed: silence means that it held.

A check gives what went through, or "" where all was refused. `ours` marks those that only make sense with an executor inside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from runtime.drivers.errors import ExecutorError
from runtime.drivers.executor_client import ExecutorClient
from tests.containment.targets import Ours, Target, run_in

PRELUDE = """
import ctypes, errno, glob, json, os, platform, resource, signal, socket, stat, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
def through(*words):
    print("THROUGH", *words, flush=True)
def tried(what, call, *arguments):
    try:
        call(*arguments)
    except (OSError, ValueError):
        return
    through(what)
def syscall(what, amd64, arm64, *arguments):
    if libc.syscall(amd64 if X86 else arm64, *[ctypes.c_ulong(a) for a in arguments]) >= 0:
        through(what)
"""


@dataclass(frozen=True)
class Case:
    """`number` is its name in the list of cases."""

    number: str
    words: str
    check: Callable[[Target], str]
    ours: bool = False


CASES: list[Case] = []


def inside(
    number: str, words: str, code: str, ours: bool = False, timeout: float = 20.0, ends: tuple[str, ...] = ("ok",)
) -> None:
    """A case that is one piece of code, which must end in one of `ends`."""

    def check(target: Target) -> str:
        done = target.run(PRELUDE + code, timeout)
        lines = [line.removeprefix("THROUGH ") for line in done.stdout.splitlines() if line.startswith("THROUGH")]
        found = list(dict.fromkeys(lines))
        if done.outcome not in ends and target.ours:
            found.append(f"ended as {done.outcome}: {(done.stderr or done.stdout)[-300:]}")
        return "; ".join(found)

    CASES.append(Case(number, words, check, ours))


def outside(number: str, words: str) -> Callable[[Callable[[Ours], str]], Callable[[Ours], str]]:
    """A case that takes more than one run, or a look from the host."""

    def add(check: Callable[[Ours], str]) -> Callable[[Ours], str]:
        CASES.append(Case(number, words, check, ours=True))  # type: ignore[arg-type]
        return check

    return add


FORK = """
made = 0
try:
    while made < 300:
        if os.fork() == 0:
            time.sleep(30); os._exit(0)
        made += 1
    through("300 processes")
except OSError as error:
    assert error.errno == errno.EAGAIN
if made >= 300:
    os.killpg(0, signal.SIGKILL)
"""
inside("A1", "a fork bomb stops at the limit of processes", FORK, ends=("ok",))


@outside("A1, A2", "a fork bomb ends at the deadline, with every process, and the session goes on")
def fork_bomb(target: Ours) -> str:
    code = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    done = target.run(code, timeout=1.5)
    left = target.run("import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))", 10)
    words = "" if done.outcome == "timeout" else f"ended as {done.outcome}"
    return words or ("" if left.outcome == "ok" and int(left.stdout) < 12 else f"left: {left.stdout}{left.stderr}")


inside("A3", "memory beyond the limit", "x = []\nfor _ in range(1000): x.append(bytearray(1 << 20))\nthrough('1,000 MiB')",
       ends=("oom",))  # fmt: skip
FILL = """
for folder, most in (("/tmp", 128), ("/dev/shm", 128)):
    path = folder + "/big"
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(most): file.write(b"x" * (1 << 20))
        through(f"{most} MiB in {folder}")
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    finally:
        os.unlink(path)
"""
inside("A5", "filling /tmp and /dev/shm ends in ENOSPC", FILL)
inside("A7", "the workspace ends at its size", """
try:
    with open("big", "wb", buffering=0) as file:
        for _ in range(100): file.write(b"x" * (1 << 20))
    through("100 MiB of 64")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
finally:
    os.unlink("big")
""")  # fmt: skip
inside("A8", "the workspace ends at its number of files", """
import shutil
os.mkdir("many")
try:
    for n in range(3000): open(f"many/{n}", "w").close()
    through("3,000 files of 2,000")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
finally:
    shutil.rmtree("many")
""")  # fmt: skip
inside("A10", "file descriptors end at the limit", """
files = []
try:
    for _ in range(2000): files.append(open("/dev/null"))
    through("2,000 open files")
except OSError as error:
    assert error.errno == errno.EMFILE, error
    for file in files: file.close()
""")  # fmt: skip


@outside("A11", "a loop that ignores every signal is killed at its deadline")
def deadline(target: Ours) -> str:
    code = "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\nwhile True: pass"
    done = target.run(code, timeout=1.0)
    late = done.result.duration_ms - 1000
    return "" if done.outcome == "timeout" and late <= 500 else f"{done.outcome}, {late:.0f} ms late"


@outside("A12", "a daemon that leaves its session dies with the run")
def daemon(target: Ours) -> str:
    code = """
import os, signal, time
if os.fork() == 0:
    os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        while True:
            open("/workspace/alive", "w").write(str(time.time())); time.sleep(0.02)
    os._exit(0)
while not os.path.exists("/workspace/alive"): time.sleep(0.01)
"""
    target.run(code, 10)
    look = "import time\na = open('alive').read(); time.sleep(0.3); print(a != open('alive').read())"
    return "" if target.run(look, 10).stdout.strip() == "False" else "the daemon lives on"


TAMPER = """
for _ in range({times}):
    tried("kill", os.kill, 1, signal.SIGKILL)
    tried("stop", os.kill, 1, signal.SIGSTOP)
    tried("terminate", os.kill, 1, signal.SIGTERM)
    syscall("ptrace attach", 101, 117, 16, 1, 0, 0)
    for name in ("mem", "environ", "maps"):
        tried("read " + name, lambda: open("/proc/1/" + name, "rb").read(1))
    tried("write mem", lambda: open("/proc/1/mem", "r+b"))
    for name in ("fd", "root", "cwd"):
        tried("list " + name, os.listdir, "/proc/1/" + name)
"""
LIMITS = """
for _ in range({times}):
    tried("prlimit", resource.prlimit, 1, resource.RLIMIT_NOFILE, (16, 16))
    tried("setpriority", os.setpriority, os.PRIO_PROCESS, 1, 19)
    tried("sched_setaffinity", os.sched_setaffinity, 1, {{0}})
"""
SOCKET = """
for _ in range({times}):
    tried("connect", lambda: socket.socket(socket.AF_UNIX).connect("/run/sbx/executor.sock"))
    tried("list", os.listdir, "/run/sbx")
    tried("unlink", os.unlink, "/run/sbx/executor.sock")
    tried("rename", os.rename, "/run/sbx/executor.sock", "/run/sbx/x")
    tried("chmod", os.chmod, "/run/sbx/executor.sock", 0o777)
    tried("chmod of the folder", os.chmod, "/run/sbx", 0o777)
    tried("symlink", os.symlink, "/etc/passwd", "/run/sbx/new")
"""


def tampering(times: int) -> list[Case]:
    """Attacks on the executor, each so many times."""
    before = len(CASES)
    inside("A14", f"kill, stop, trace or read PID 1, {times:,} times each", TAMPER.format(times=times), timeout=120)
    inside("A15", f"limits, priority and cores of PID 1, {times:,} times each", LIMITS.format(times=times), timeout=120)
    inside(
        "A16, A17",
        f"reach, remove or replace the executor's socket, {times:,} times each",
        SOCKET.format(times=times),
        ours=True,
        timeout=120,
    )
    made = CASES[before:]
    del CASES[before:]
    return made


@outside("A20", "results that are printed stay output")
def fake_results(target: Ours) -> str:
    code = 'import json\nprint(json.dumps({"t": "result", "outcome": "ok", "return_value": "forged"}))\ndef handler(event): return 1'
    done = target.run(code)
    return "" if done.result.return_value == "1" and "forged" in done.stdout else f"gave {done.result.return_value}"


@outside("A22, A23", "what is no strict JSON, or too much of it, is refused")
def bad_results(target: Ours) -> str:
    bad = {"float('nan')": "invalid_result", "{1, 2}": "invalid_result", "object()": "invalid_result",
           "'x' * (100 << 20)": "output_limit", "deep(100000)": "invalid_result"}  # fmt: skip
    deep = "def deep(n):\n    found = []\n    for _ in range(n): found = [found]\n    return found\n"
    found = []
    for value, wanted in bad.items():
        outcome = target.run(f"{deep}def handler(event): return {value}", 30).outcome
        if outcome not in (wanted, "oom", "exception"):
            found.append(f"{value}: {outcome}")
    return "; ".join(found)


@outside("A25", "a flood of output is drained and cut, and does not hold the program")
def flood(target: Ours) -> str:
    done = target.run("import os\nfor _ in range(200): os.write(1, b'x' * (1 << 20))", 60)
    # Past its beginning a flood is sampled, 128 KiB each 50 ms or so: a follower gets a small part of it.
    kept = len(done.stdout)
    ok = done.outcome == "ok" and done.result.stdout_bytes == 200 << 20 and kept <= 20 << 20
    return "" if ok else f"{done.outcome}, kept {kept}"


@outside("A27", "exit codes are told as they are")
def exit_codes(target: Ours) -> str:
    wanted = {"import os; os._exit(7)": 7, "import sys; sys.exit('x')": 1, "raise SystemExit": 0, "1/0": 1,
              "import os; os.kill(os.getpid(), 11)": 139, "import os; os.kill(os.getpid(), 9)": 137}  # fmt: skip
    got = {code: target.run(code).result.exit_code for code in wanted}
    return "; ".join(f"{code}: {got[code]}" for code in wanted if got[code] != wanted[code])


inside("A28", "a child can't be traced to hide that it lives", 'syscall("ptrace(TRACEME)", 101, 117, 0, 0, 0, 0)')


@outside("A31", "what a run changes of the interpreter is gone in the next")
def pristine(target: Ours) -> str:
    target.run("""
import builtins, json, os, signal, sys
builtins.print = None; json.dumps = None; sys.modules["decimal"] = None; os.environ["X"] = "1"; os.chdir("/tmp"); os.umask(0)
sys.addaudithook(lambda *a: None); signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("/workspace/sitecustomize.py", "w").write("raise SystemExit(9)"); open("/workspace/json.py", "w").write("evil = 1")
""")
    done = target.run("import os, json, decimal, signal\nassert not hasattr(json, 'evil')\n"
                      "print(os.getcwd(), 'X' in os.environ, os.umask(0), signal.getsignal(15) == signal.SIG_DFL)")  # fmt: skip
    target.run("import os\nfor n in ('sitecustomize.py', 'json.py'): os.unlink('/workspace/' + n)")
    return "" if done.stdout.split() == ["/workspace", "False", "2", "True"] else done.stdout + done.stderr[-200:]


inside("A35", "mounts, namespaces, chroot", """
for name, flag in (("user", 0x10000000), ("mount", 0x20000), ("net", 0x40000000), ("pid", 0x20000000), ("uts", 0x4000000)):
    if libc.unshare(flag) == 0: through("unshare " + name)
pid = libc.syscall(56 if X86 else 220, 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0: os._exit(0)
if pid > 0: through("clone(NEWUSER)")
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0: through("mount")
if libc.umount2(b"/tmp", 2) == 0: through("umount")
if libc.syscall(155 if X86 else 41, b".", b".") == 0: through("pivot_root")
tried("setns", lambda: libc.setns(os.open("/proc/1/ns/net", 0), 0) and (_ for _ in ()).throw(OSError()))
tried("chroot", os.chroot, "/tmp")
syscall("fsopen", 430, 430, 0, 0); syscall("open_tree", 428, 428, -100 & (2**64 - 1), 0, 0)
""")  # fmt: skip
inside("A36", "keyrings, bpf, userfaultfd, perf, kexec, modules, handles", """
syscall("keyctl", 250, 219, 0, -3 & (2**64 - 1)); syscall("add_key", 248, 217, 0, 0, 0, 0)
syscall("bpf", 321, 280, 0, 0, 0); syscall("userfaultfd", 323, 282, 0); syscall("userfaultfd (user)", 323, 282, 1)
syscall("perf_event_open", 298, 241, 0, 0, 0, 0, 0); syscall("kexec_load", 246, 104, 0, 0, 0, 0)
syscall("init_module", 175, 105, 0, 0, 0); syscall("open_by_handle_at", 304, 265, 0, 0, 0)
syscall("process_vm_readv", 310, 270, 1, 0, 0, 0, 0, 0); syscall("pidfd_getfd", 438, 438, 0, 0, 0); syscall("syslog", 103, 116, 3, 0, 0)
""")  # fmt: skip
inside("A37", "io_uring, raw and odd socket families", """
buffer = ctypes.create_string_buffer(256)
if libc.syscall(425, 1, buffer) >= 0: through("io_uring_setup")
for name, family in (("AF_PACKET", 17), ("AF_ALG", 38), ("AF_VSOCK", 40), ("AF_SMC", 43), ("AF_XDP", 44), ("AF_BLUETOOTH", 31)):
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        tried(name, socket.socket, family, kind, 0)
tried("raw IP", socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
""")  # fmt: skip
inside("A38", "programs with set-user-id gain nothing", """
for path in ("/bin/su", "/usr/bin/su", "/bin/mount", "/usr/bin/passwd", "/usr/bin/newgrp", "/usr/bin/chsh", "/usr/bin/sudo"):
    try:
        if os.getuid() != 0 and os.stat(path).st_mode & 0o4000 and os.access(path, os.X_OK):
            status = open("/proc/self/status").read()
            if "NoNewPrivs:\\t1" not in status and "NoNewPrivs" in status: through(path)
    except OSError:
        pass
tried("become root", os.setuid, 0) if os.getuid() else through("is root")
""")  # fmt: skip
inside("A39", "kernel interfaces in /proc, /sys and /dev", """
for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/dev/sda", "/dev/vda", "/dev/loop0"):
    try:
        if open(path, "rb").read(10): through("read " + path)
    except OSError: pass
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
             "/proc/sys/vm/overcommit_memory", *glob.glob("/sys/fs/cgroup/*/memory.limit_in_bytes"),
             *glob.glob("/sys/fs/cgroup/**/release_agent"),
             "/sys/fs/cgroup/memory.max", "/etc/passwd", "/usr/bin/env", "/usr/local/bin/python3", "/new"):
    tried("write " + path, lambda: open(path, "a").close())
if os.path.exists("/new"): os.unlink("/new")
for folder in ("/sys/firmware", "/proc/scsi", "/proc/acpi"):
    try:
        if os.listdir(folder): through("list " + folder)
    except OSError: pass
tried("mknod", os.mknod, "/tmp/sda", 0o600 | stat.S_IFBLK, os.makedev(8, 0))
""")  # fmt: skip
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
        from runtime.drivers.executor_client import Output, RunRequest

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


inside("A42", "the network: metadata, private and public addresses, names, the engine's ports", """
names = [name for _, name in socket.if_nameindex() if name.startswith(("eth", "en", "wl", "docker", "br", "veth"))]
if names: through("interfaces", names)
for family, address in ((2, ("169.254.169.254", 80)), (2, ("10.0.0.1", 80)), (2, ("192.168.0.1", 80)), (2, ("172.17.0.1", 2375)),
                        (2, ("172.17.0.1", 2376)), (2, ("8.8.8.8", 53)), (10, ("fd00:ec2::254", 80)), (10, ("2001:4860:4860::8888", 53))):
    def reach():
        probe = socket.socket(family); probe.settimeout(1); probe.connect(address)
    tried(str(address), reach)
tried("names", socket.getaddrinfo, "example.org", 80)
""")  # fmt: skip
inside("A44", "secrets in the environment of any process", """
for path in glob.glob("/proc/[0-9]*/environ"):
    try: text = open(path).read()
    except OSError: continue
    for word in ("TOKEN", "SECRET", "PASSWORD", "AWS_", "DATABASE_URL", "DOCKER_HOST"):
        if word in text.upper(): through(word, path)
""")  # fmt: skip
TRAPS = """
import os
os.symlink("/etc/passwd", "absolute"); os.symlink("../etc/passwd", "relative"); os.symlink("absolute", "chained")
os.symlink("/etc", "folder"); os.symlink("/proc/self/root/etc/passwd", "root"); os.mkfifo("pipe")
"""


@outside("A45, A48", "links, pipes and devices in the workspace are no way out, and hold nobody")
def traps(target: Ours) -> str:
    target.run(TRAPS)
    found = []
    for path in ("absolute", "relative", "chained", "folder/passwd", "root", "pipe"):
        began = time.monotonic()
        try:
            _, body = target.client.open_file(path)
            with body:
                found.append(f"read {path}: {next(iter(body), b'')[:20]!r}")
        except ExecutorError:
            pass
        if time.monotonic() - began > 2:
            found.append(f"{path} held us")
    names = [entry.path for entry in target.client.list_files().files]
    found += [f"listed {name}" for name in ("absolute", "pipe", "root") if name in names]
    return "; ".join(found)


@outside("A52", "a deep tree and many files are removed in under 5 s, mounts and all")
def removal(target: Ours) -> str:
    other = target.make()
    run_in(
        other,
        "import os\nfor n in range(1500): open(f'f{n}', 'w').close()\nfor _ in range(300): os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)",
        30,
    )
    began = time.monotonic()
    target.driver.remove(other.name)
    took = time.monotonic() - began
    left = [item.name for item in target.driver.list() if item.name == other.name]
    return f"left {left}" if left else "" if took < 5 else f"took {took:.1f} s"


inside("A53", "no core dumps", 'if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0: through("core dumps")')
