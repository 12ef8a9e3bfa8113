"""Processes, memory, disk, descriptors, time: each ends at its limit, and the session goes on."""

from __future__ import annotations

from tests.containment.cases.case import inside, outside
from tests.containment.targets import Ours

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
fork_limit = inside("A1", "a fork bomb stops at the limit of processes", FORK, ends=("ok",))


@outside("A1, A2", "a fork bomb ends at the deadline, with every process, and the session goes on")
def fork_bomb(target: Ours) -> str:
    code = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    done = target.run(code, timeout=1.5)
    left = target.run("import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))", 10)
    words = "" if done.outcome == "timeout" else f"ended as {done.outcome}"
    return words or ("" if left.outcome == "ok" and int(left.stdout) < 12 else f"left: {left.stdout}{left.stderr}")


memory = inside("A3", "memory beyond the limit", """
try:
    x = []
    for _ in range(1000): x.append(bytearray(1 << 20))
except MemoryError:
    sys.exit()  # refused, where the kernel does not kill
through("1,000 MiB")
""", ends=("oom", "ok"))  # fmt: skip
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
scratch = inside("A5", "filling /tmp and /dev/shm ends in ENOSPC", FILL)
disk = inside("A7", "the workspace ends at its size", """
try:
    with open("big", "wb", buffering=0) as file:
        for _ in range(100): file.write(b"x" * (1 << 20))
    through("100 MiB of 64")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
finally:
    os.unlink("big")
""")  # fmt: skip
files = inside("A8", "the workspace ends at its number of files", """
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
descriptors = inside("A10", "file descriptors end at the limit", """
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
