"""Many at once: throughput, sleeping runs, bursts, and what our processes weigh."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def throughput(make: Callable[[int], Callable[[], object]], concurrency: int, seconds: float) -> float:
    """Calls per second of `concurrency` threads, each with its own `make(number)`."""
    counts = [0] * concurrency
    stop = threading.Event()
    start = threading.Barrier(concurrency + 1)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            call = make(number)
            call()
            start.wait()
            while not stop.is_set():
                call()
                counts[number] += 1
        except BaseException as error:
            errors.append(error)
            start.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(concurrency)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):
        start.wait()
    began = time.monotonic()
    if not errors:
        stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) / (time.monotonic() - began)


def weight_mb(root_pid: int) -> float:
    """Proportional memory of a process and all its descendants, but for what runs in sandboxes."""
    return sum(_pss(pid) for pid in descendants(root_pid)) / 1024


def cpu_seconds(root_pid: int) -> float:
    """Processor time of a process and all its descendants, those that have ended included."""
    ticks = 0
    for pid in descendants(root_pid):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def descendants(root_pid: int) -> set[int]:
    """The process and all below it. Sandboxes are started detached and do not count."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    found = {root_pid}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
