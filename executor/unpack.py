"""Unpacks an archive in a process of its own: what a hostile one may take is bounded by the kernel, and dies with it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import time
from typing import Any, BinaryIO

from executor import archive, procfs
from executor.archive import DAMAGED, PIECE, Budget
from executor.linux import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, close_all_but, prctl
from executor.log import log
from executor.privileges import offer
from executor.wire import Fault
from executor.workspace import FOLDER_FLAGS

PATIENCE = 120.0  # seconds for the whole of it
MEMORY = 256 * 1024 * 1024  # bytes of address space beyond what the helper has
MAX_REPORT = 64 * 1024
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(source: int, stage: int, below: int) -> None:
    """Puts the files of the archive `source` into the empty folder `stage` (both descriptors). Raises Fault.

    `below` is the length in bytes of the path that they will go to.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:
        os.close(ours)
        os.close(theirs)
        raise Fault("busy", "there is no process left to unpack with") from None
    if pid == 0:
        _child(source, stage, below, theirs)
    os.close(theirs)
    try:
        report = _listen(ours)
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if report is None:
        raise Fault("too_large", "unpacking the archive takes too much memory or time")
    if "error" in report:
        raise Fault(report["error"], report["message"])


def _listen(pipe: int) -> dict[str, Any] | None:
    """What the child says at its end; None where it never does."""
    end, said = time.monotonic() + PATIENCE, b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while (left := end - time.monotonic()) > 0 and len(said) < MAX_REPORT:
        if poll.poll(left * 1000):
            data = os.read(pipe, MAX_REPORT)
            if not data:
                return json.loads(said) if said else None
            said += data
    return None


def _child(source: int, stage: int, below: int, pipe: int) -> None:
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _confine({source, stage, pipe})
        report: dict[str, Any] = {"done": True}
        try:
            with os.fdopen(source, "rb") as file:
                _fill(file, stage, below)
        except Fault as fault:
            report = {"error": fault.code, "message": fault.message}
        except BaseException as error:
            log("error", "unpacking_failed", error=repr(error))
            report = {"error": "internal", "message": "unpacking failed"}
        os.write(pipe, json.dumps(report).encode())
    finally:
        os._exit(0)


def _confine(keep: set[int]) -> None:
    """The connections of the others are theirs alone, and the first to go where memory is short is this process."""
    close_all_but(keep | procfs.kept())
    size = int(procfs.read("self/statm").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    seconds = int(PATIENCE)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    prctl(PR_SET_DUMPABLE, 1)  # or its own files in /proc would belong to root
    offer(1000)
    prctl(PR_SET_DUMPABLE, 0)
    procfs.forget()


def _fill(file: BinaryIO, stage: int, below: int) -> None:
    try:
        file.seek(0, os.SEEK_END)
        budget = Budget(file.tell())
        file.seek(0)
        for entry in archive.entries(file, budget):
            path = archive.segments(entry.name, below)
            if entry.read is None:
                os.close(_folder(stage, path, budget))
            elif not path:
                raise Fault("bad_request", "the archive has a file without a name")
            else:
                _write(entry, stage, path, budget)
    except MemoryError:
        raise Fault("too_large", "unpacking the archive takes too much memory") from None
    except DAMAGED:
        raise Fault("bad_request", "the archive is damaged, or is neither tar nor zip") from None
    except OSError as error:
        raise _fault(error) from None


def _fault(error: OSError) -> Fault:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Fault("disk_full", "the workspace is full")
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
        return Fault("bad_request", "the archive has a file and a folder of the same name")
    if error.errno == errno.ENOENT:  # the folder itself is gone
        return Fault("conflict", "a program in the workspace removed what was being unpacked")
    # The libraries raise OSError, without a number, for damaged data.
    return (
        Fault("bad_request", "the archive is damaged") if error.errno is None else Fault("internal", "unpacking failed")
    )


def _folder(stage: int, path: list[str], budget: Budget) -> int:
    """A descriptor of the folder, made where it is missing."""
    fd = os.dup(stage)
    for name in path:
        try:
            try:
                child = os.open(name, FOLDER_FLAGS, dir_fd=fd)
            except FileNotFoundError:
                budget.entry()
                os.mkdir(name, 0o2775, dir_fd=fd)
                child = os.open(name, FOLDER_FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = child
    return fd


def _write(entry: archive.Entry, stage: int, path: list[str], budget: Budget) -> None:
    assert entry.read is not None
    budget.entry()
    folder = _folder(stage, path[:-1], budget)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path[-1], dir_fd=folder)  # the archive has it twice: the later one counts
        fd = os.open(path[-1], NEW_FILE, 0o775 if entry.executable else 0o664, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(fd, "wb", buffering=0) as file:
        while piece := entry.read(PIECE):
            budget.spend(len(piece))
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
