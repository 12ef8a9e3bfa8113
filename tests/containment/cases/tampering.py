"""Attacks on the executor."""

from __future__ import annotations

from tests.containment.cases.case import Case, inside

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
# Every process and thread that is not the user's, also under another spelling of its number, which gVisor's /proc knows too. Under that
# one a process may be seen that holds no descriptor, and shows no more than the run's own entries: environment, places of libraries.
EVERYBODY = """
SECRET = ("mem", "environ", "maps", "smaps", "auxv", "pagemap", "stack", "syscall", "io", "personality")
def content(place):
    try:
        with open(place, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""
def libraries(place):
    return {line for line in content(place).splitlines() if b".so" in line}
def known(name, told):
    if name in ("maps", "smaps"):
        return libraries("/proc/self/maps") >= {line for line in told.splitlines() if b".so" in line}
    return name in ("environ", "auxv") and told == content("/proc/self/" + name)
def look(place, plain):
    for name in SECRET:
        told = content(place + "/" + name)
        if told and (plain or not known(name, told)):
            through("read " + name, "of", place)
    for name in ("fd", "fdinfo", "root", "cwd", "map_files"):
        try:
            if os.listdir(place + "/" + name):
                through("list " + name, "of", place)
        except OSError:
            pass
    for number in range(64):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            tried("open fd of " + place, os.open, f"{place}/fd/{number}", flags | os.O_NONBLOCK)
for _ in range(3):
    for number in range(1, os.getpid() + 100):
        for plain, place in ((True, f"/proc/{number}"), (False, f"/proc/0{number}")):
            try:
                mine = os.stat(place).st_uid == os.getuid()
            except OSError:
                continue
            if not mine:
                look(place, plain)
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
    often = f"{times:,} times each"
    return [
        inside(
            "A14",
            f"kill, stop, trace or read PID 1, {often}; look into any other process or thread that is not the user's",
            TAMPER.format(times=times) + EVERYBODY,
            timeout=120,
        ),
        inside("A15", f"limits, priority and cores of PID 1, {often}", LIMITS.format(times=times), timeout=120),
        inside(
            "A16, A17",
            f"reach, remove or replace the executor's socket, {often}",
            SOCKET.format(times=times),
            True,
            120,
        ),
    ]
