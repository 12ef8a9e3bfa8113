"""What is laid in the workspace for whoever reads or removes it."""

from __future__ import annotations

import time

from runtime.drivers.errors import ExecutorError
from tests.containment.cases.case import outside
from tests.containment.targets import Ours, run_in

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
