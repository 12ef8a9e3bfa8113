"""Files: what our processes weigh while large ones go through them, and how fast, beside `python -m http.server` and `docker cp`."""

from __future__ import annotations

import http.client
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench import load, peers
from tests.e2e.transfers import MIB, Sending, made

if TYPE_CHECKING:
    from bench.__main__ import Bench

PIECE = 256 * 1024
AT_ONCE = 8


def measure(bench: Bench, quick: bool) -> None:
    """Throughput of one transfer at a time, then memory while eight run, of small and of large files."""
    print("Files")
    size = (20 if quick else 100) * MIB
    _throughput(bench, size, 3 if quick else 9)
    _memory(bench, size)


# --- One at a time -------------------------------------------------------------------------------------------------------


def _throughput(bench: Bench, size: int, rounds: int) -> None:
    session_id = bench.client.session(resources={"disk": "4Gi"})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.service.state)))
        (folder / "big").write_bytes(b"".join(made(size)))
        _upload(bench, session_id, "big", size)
        port = stack.enter_context(_http_server(folder))
        cases: dict[str, Callable[[], object]] = {
            "upload": lambda: _upload(bench, session_id, "new", size),
            "download": lambda: _download(bench, session_id, "big", size),
            "peer: http.server, download": lambda: _get(port, "/big", {}, size),
        }
        image = bench.image("python-basic") if bench.service.runtime == "docker" else ""
        copier = peers.available(peers.DockerCopy, image, folder / "big") if image else None
        if copier is not None:
            stack.callback(copier.close)
            cases["peer: docker cp, in"] = copier.copy_in
            cases["peer: docker cp, out"] = copier
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 1):  # A B A B; the first round warms up
            for name, case in cases.items():
                began = time.perf_counter()
                case()
                if number:
                    seconds[name].append(time.perf_counter() - began)
                if name == "upload":
                    bench.await_copies()  # the copy to storage must not compete with the next case
    rate = {name: size / MIB / statistics.median(values) for name, values in seconds.items()}
    bench.report.add(
        {f"{name}, {size // MIB} MB": [1000 * value for value in values] for name, values in seconds.items()}
    )
    for name, value in rate.items():
        bench.report.figure(f"{name}, at the median", value, "MB/s")
    nothing = float("nan")
    bar = bench.report.bar
    bar(
        "upload, MB/s / docker cp into a container",
        rate["upload"] / rate.get("peer: docker cp, in", nothing),
        0.5,
        1.0,
        True,
    )
    bar(
        "download, MB/s / docker cp out of one",
        rate["download"] / rate.get("peer: docker cp, out", nothing),
        0.5,
        1.0,
        True,
    )
    bar(
        "download, MB/s / python -m http.server", rate["download"] / rate["peer: http.server, download"], 0.3, 0.6, True
    )
    bench.client.end(session_id)


def _upload(bench: Bench, session_id: str, path: str, size: int) -> None:
    status, body = Sending(bench.service, session_id, path, size).send(made(size)).finish()
    if status != 200:
        raise RuntimeError(f"upload: {status} {body}")


def _download(bench: Bench, session_id: str, path: str, size: int) -> None:
    headers = {"Authorization": f"Bearer {bench.service.token}"}
    _get(bench.service.port, f"/api/v1/sessions/{session_id}/files/{path}?redirect=false", headers, size)


def _get(port: int, target: str, headers: dict[str, str], size: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    buffer = memoryview(bytearray(PIECE))
    got = 0
    while count := answer.readinto(buffer):
        got += count
    connection.close()
    if (answer.status, got) != (200, size):
        raise RuntimeError(f"download: {answer.status}, {got} bytes")


@contextmanager
def _http_server(folder: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


# --- Eight at once -------------------------------------------------------------------------------------------------------


def _memory(bench: Bench, size: int) -> None:
    root = bench.service.process.pid if bench.service.process else 0
    small = MIB
    for_each = [bench.client.session(resources={"disk": "4Gi"}) for _ in range(4)]
    _all_at_once(bench, for_each, small)  # threads, connections and buffers are there
    peaks = {}
    for each in (small, size):
        processes = load.descendants(root)
        _forget_peaks(processes)
        spooled = _all_at_once(bench, for_each, each)
        bench.await_copies()
        peaks[each] = {pid: peak for pid in processes if (peak := _peak_mb(pid))}
        bench.report.figure(
            f"largest peak of a process of ours, {AT_ONCE} x {each // MIB} MB up and down",
            max(peaks[each].values()),
            "MB",
        )
        bench.report.figure(
            f"peaks of all of ours together, {AT_ONCE} x {each // MIB} MB", sum(peaks[each].values()), "MB"
        )
        bench.report.figure(f"bytes in temporary files of ours, {AT_ONCE} x {each // MIB} MB", spooled, "B")
    growth = max(peaks[size][pid] - peaks[small][pid] for pid in peaks[size] if pid in peaks[small])
    bench.report.bar(
        f"growth of any process's peak, {AT_ONCE} x {size // MIB} MB over {AT_ONCE} x {small // MIB} MB, MB",
        growth,
        16,
        4,
    )
    bench.report.bar("bytes of uploads in temporary files of ours", float(spooled), 0, 0)
    for session_id in for_each:
        bench.client.end(session_id)


def _all_at_once(bench: Bench, sessions: list[str], size: int) -> int:
    """Eight uploads, then eight downloads; the most bytes that were seen in temporary files."""
    spooled = 0
    for act in (_upload, _download):
        errors: list[BaseException] = []

        def one(number: int, act: Callable[..., None] = act, errors: list[BaseException] = errors) -> None:
            try:
                act(bench, sessions[number % len(sessions)], f"big{number}", size)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            spooled = max(spooled, _temporary(bench.service.state / "tmp"))
            threads[0].join(0.02)
            time.sleep(0.02)
        if errors:
            raise errors[0]
    return spooled


def _temporary(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def _forget_peaks(processes: set[int]) -> None:
    for pid in processes:
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew at what it holds now


def _peak_mb(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0
