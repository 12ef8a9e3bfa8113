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
        inside("A14", f"kill, stop, trace or read PID 1, {often}", TAMPER.format(times=times), timeout=120),
        inside("A15", f"limits, priority and cores of PID 1, {often}", LIMITS.format(times=times), timeout=120),
        inside(
            "A16, A17",
            f"reach, remove or replace the executor's socket, {often}",
            SOCKET.format(times=times),
            True,
            120,
        ),
    ]
