"""The contract of `runtime.drivers.base`, kept by every driver, on the real thing: limits."""

import time

import pytest

from runtime.drivers import workspace
from runtime.drivers.errors import (
    NoCapacity,
    RuntimeUnsupported,
    SandboxNotFound,
)
from runtime.drivers.types import MIB, Resources, SandboxState
from tests.drivers.conftest import GVISOR, UNKNOWN, kill_and_wait, leftovers, printed, run


def test_memory(kind):
    driver = kind.driver()
    made = driver.create(kind.spec(resources=Resources(memory=128 * MIB)))
    result, _, _ = run(made, "x = []\nwhile True: x.append(bytearray(1 << 20))")
    if GVISOR:  # one process can't have more; what all have together ends the sandbox
        assert (result.outcome, result.error.type) == ("exception", "MemoryError")
    else:
        assert result.outcome == "oom"
        assert driver.stats(made.name).oom_kills >= 1
    assert printed(made, "print('alive')") == "alive"
    assert driver.inspect(made.name).state is SandboxState.RUNNING


def test_other_limits_while_it_runs(kind):
    driver = kind.driver()
    made = driver.create(kind.spec(resources=Resources(cpu=1.0, memory=256 * MIB)))
    if GVISOR:  # such sessions start cold
        with pytest.raises(RuntimeUnsupported):
            driver.update(made.name, Resources(cpu=0.3, memory=512 * MIB))
        return
    spin = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    grab = "x = bytearray(300 << 20)\nprint(len(x) >> 20)"
    for asked in (Resources(cpu=0.3, memory=512 * MIB), Resources(cpu=0.3, memory=512 * MIB)):
        driver.update(made.name, asked)
        assert float(printed(made, spin)) < 0.5
        assert printed(made, grab) == "300"
    driver.update(made.name, Resources(cpu=1.0, memory=128 * MIB))
    assert run(made, grab)[0].outcome == "oom"
    assert driver.inspect(made.name).state is SandboxState.RUNNING
    with pytest.raises(NoCapacity):
        driver.update(made.name, Resources(memory=8 * MIB))
    assert printed(made, "print('alive')") == "alive"


def test_what_does_not_run_can_not_be_updated(kind):
    driver = kind.driver()
    with pytest.raises(SandboxNotFound):
        driver.update(UNKNOWN, Resources())
    made = driver.create(kind.spec())
    kill_and_wait(driver, made)
    with pytest.raises(SandboxNotFound):
        driver.update(made.name, Resources())


FORK = """
import os, time
made = 0
try:
    while made < 500:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except OSError as error:
    print(error.errno, made, flush=True)
"""


def test_pids(kind):
    made = kind.driver().create(kind.spec(resources=Resources(pids=64)))
    number, count = printed(made, FORK).split()
    assert number == "11" and int(count) < 64
    assert printed(made, "print('alive')") == "alive"


FILL = """
import os
try:
    with open("{folder}/big", "wb", buffering=0) as file:
        for _ in range(1000):
            file.write(b"x" * (1 << 20))
except OSError as error:
    print(error.errno, os.path.getsize("{folder}/big") >> 20)
"""
MANY = """
import os
os.mkdir("many")
try:
    for made in range(100_000):
        open(f"many/{made}", "w").close()
except OSError as error:
    print(error.errno, made)
"""


@pytest.mark.parametrize("disk", ["ext4", "tmpfs"])
def test_disk_and_inodes(kind, disk, monkeypatch):
    if disk == "tmpfs":
        monkeypatch.setattr(workspace, "can_mount", lambda state: False)
    driver = kind.driver()
    made = driver.create(kind.spec(resources=Resources(disk=32 * MIB, inodes=500)))
    assert made.limits_enforced["disk"] == made.limits_enforced["inodes"] == disk
    number, size = printed(made, FILL.format(folder="/workspace")).split()
    assert number == "28" and 29 <= int(size) <= 34
    if GVISOR and disk == "tmpfs":
        return  # its tmpfs has no limit of files; they are its own memory's
    number, count = printed(made, "import os; os.unlink('big')\n" + MANY).split()
    assert number == "28" and 450 <= int(count) <= 520
    driver.remove(made.name)
    assert leftovers(kind, made.name, made.ref) == []


def test_scratch_is_small_and_not_executable(kind):
    made = kind.driver().create(kind.spec(resources=Resources(memory=256 * MIB)))
    for folder, most in (("/tmp", 64), ("/dev/shm", 16)):
        number, size = printed(made, FILL.format(folder=folder)).split()
        assert number == "28" and int(size) <= most
    assert printed(made, "cp /bin/true /tmp/t && /tmp/t; echo $?", language="shell") == "126"
    assert printed(made, "cp /bin/true /workspace/t && /workspace/t; echo $?", language="shell") == "0"


def test_cpu(kind):
    made = kind.driver().create(kind.spec(resources=Resources(cpu=0.5)))
    # By the host's clock and counter: what a sandbox's own kernel says of itself is a claim.
    printed(made, "pass")
    before, began = kind.driver().stats(made.name).cpu_seconds, time.monotonic()
    printed(made, "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass")
    took = time.monotonic() - began
    assert kind.driver().stats(made.name).cpu_seconds - before < 0.6 * took + 0.1


def test_a_full_workspace_is_removed_in_a_moment(kind):
    driver = kind.driver()
    made = driver.create(kind.spec(resources=Resources(disk=512 * MIB, inodes=50_000)))
    code = """
import os
for number in range(20_000):
    open(f"f{number}", "w").close()
for depth in range(2000):
    os.mkdir("d")
    os.chdir("d")
os.chmod(".", 0)
with open("/workspace/big", "wb") as file:
    for _ in range(300):
        file.write(b"x" * (1 << 20))
"""
    printed(made, code, timeout=60)
    begun = time.monotonic()
    driver.remove(made.name)
    assert time.monotonic() - begun < 3
    assert leftovers(kind, made.name, made.ref) == []
