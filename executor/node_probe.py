"""Finds out at boot which node the sandbox has, without waiting for it."""

from __future__ import annotations

import os
from collections.abc import Callable

from executor.loop import READ, Loop
from executor.node_runner import find_node

PATIENCE = 10.0  # seconds


class NodeProbe:
    """Calls `found(version)` once; None where there is no node, or none that runs."""

    def __init__(self, loop: Loop, site: str, found: Callable[[str | None], None]) -> None:
        self._loop, self._found = loop, found
        self._answer = b""
        node = find_node(site)
        if node is None:
            return found(None)
        self._read, write = os.pipe2(os.O_CLOEXEC)
        try:
            os.posix_spawn(node, [node, "--version"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
        except OSError:
            pass
        finally:
            os.close(write)
        self._timer = loop.later(PATIENCE, self._done)
        loop.watch(self._read, READ, self._readable)

    def _readable(self, _mask: int) -> None:
        data = os.read(self._read, 256)
        self._answer += data
        if not data or len(self._answer) > 256:
            self._done()

    def _done(self) -> None:
        self._timer.cancel()
        self._loop.unwatch(self._read)
        os.close(self._read)
        self._found(self._answer.decode("latin-1").strip().lstrip("v") or None)
