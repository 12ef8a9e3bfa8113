"""Which workspace files a run created or modified, by comparing scans of bounded size."""

from __future__ import annotations

import os
import threading
from typing import Any

from executor.wire import Fault
from executor.workspace import Workspace

MAX_SCANNED = 10_000
MAX_ARTIFACTS = 200
MAX_PATH = 1024  # bytes of one path
MAX_PATH_BYTES = 32 * 1024  # all of them together: the list travels in one packet
CLOCK_GRAIN = 20_000_000  # nanoseconds: file times come from a clock that ticks each 4 to 10 ms

Stamp = tuple  # (inode, size, mtime_ns, ctime_ns)


def stamp(info: os.stat_result) -> Stamp:
    return (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


class Artifacts:
    """The workspace as it was after the last scan, and what each running run saw when it began.

    A begin costs no scan: between runs nobody but the helper changes the workspace, so the last scan still holds.
    """

    def __init__(self, workspace: Workspace, helper_uid: int) -> None:
        self._workspace = workspace
        self._helper_uid = helper_uid
        self._known: dict[str, Stamp] = {}
        self._uploads: dict[str, Stamp] = {}
        self._begun: dict[int, tuple[dict[str, Stamp], int, int]] = {}
        self._lock = threading.Lock()

    def uploaded(self, path: str, info: os.stat_result) -> None:
        """What the helper wrote itself is no run's artifact."""
        with self._lock:
            self._uploads[path] = stamp(info)

    def rescan(self) -> None:
        """Takes the workspace as it is for the state before any run."""
        self._known, _ = self._scan()

    def begin(self, run: int, uid: int, at_ns: int) -> None:
        """`at_ns` is the wall clock just before the run's start, `uid` the run's own."""
        with self._lock:
            if self._uploads:
                self._known = {**self._known, **self._uploads}
                self._uploads = {}
        self._begun[run] = (self._known, uid, at_ns - CLOCK_GRAIN)

    def end(self, run: int) -> tuple[list[dict[str, Any]], bool]:
        before, uid, since = self._begun.pop(run, (self._known, 0, 0))
        now, truncated = self._scan()
        with self._lock:
            uploads = dict(self._uploads)
        changed: list[dict[str, Any]] = []
        for path, (current, owner) in self._owners.items():
            if len(os.fsencode(path)) > MAX_PATH:
                truncated = True  # no client could name it
                continue
            if before.get(path) == current or uploads.get(path) == current or current[3] < since:
                continue
            if path in before:
                changed.append({"path": path, "size": current[1], "change": "modified"})
            elif owner in (uid, self._helper_uid):
                changed.append({"path": path, "size": current[1], "change": "created"})
        self._known = now
        listed = _bounded(changed)
        return listed, truncated or len(listed) < len(changed)

    def _scan(self) -> tuple[dict[str, Stamp], bool]:
        truncated = False
        self._owners: dict[str, tuple[Stamp, int]] = {}
        try:
            for found in self._workspace.walk([]):
                if found is None or len(self._owners) >= MAX_SCANNED:
                    truncated = True
                    break
                self._owners[found[0]] = (stamp(found[1]), found[1].st_uid)
        except Fault:  # a run does not fail for a disk that does
            truncated = True
        return {path: entry[0] for path, entry in self._owners.items()}, truncated


def _bounded(changed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    room = MAX_PATH_BYTES
    for index, entry in enumerate(changed[:MAX_ARTIFACTS]):
        room -= len(entry["path"].encode())
        if room < 0:
            return changed[:index]
    return changed[:MAX_ARTIFACTS]
