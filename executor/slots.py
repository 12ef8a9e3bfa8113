"""Places for runs, the pipes between PID 1 and a run's process, and node processes that wait in a free place."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

from executor.cli import Options
from executor.helper import Helper
from executor.linux import cpu_seconds, private_file
from executor.log import log
from executor.loop import Timer
from executor.privileges import acting_as, kill_user
from executor.runs import Run

SPEC_KEYS = ("code", "event", "args", "env", "working_directory", "timeout")


class Slot:
    """A place for one run at a time, with a uid of its own."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.run: Run | None = None
        self.warm: WarmNode | None = None
        self.swept = False  # since the end of the run began
        self.listing = False  # the file helper has been asked for the run's artifacts before its process was dead
        self.pipes: dict[int, str] = {}
        self.unsent: Pipes | None = None  # while there is no zygote to hand them to
        self.asked: Pipes | None = None  # from then on: its request shows whether a process took it
        self.timers: dict[str, Timer] = {}

    def cancel_timer(self, name: str) -> None:
        timer = self.timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def forget_theirs(self) -> None:
        for pipes in (self.unsent, self.asked):
            if pipes is not None:
                pipes.close_theirs()
        self.unsent = self.asked = None


class Pipes:
    """One run's descriptors: `ours` by name, non-blocking; `theirs` in the order that the child expects."""

    def __init__(self, uid: int, gid: int, stdin: bool) -> None:
        self.ours: dict[str, int] = {}
        self.theirs: list[int] = []
        try:
            self.spec = private_file()  # what the child reads of the request
            self.theirs.append(self.spec)
            with acting_as(uid, gid):  # the user may open /dev/stdout by name; the result pipe is not for that
                if stdin:
                    read, self.ours["stdin"] = os.pipe2(os.O_CLOEXEC)
                else:
                    read = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                self.theirs.append(read)
                for name in ("stdout", "stderr"):
                    self._add_output(name)
            self._add_output("result")
        except OSError:
            self.close()
            raise
        for fd in self.ours.values():
            os.set_blocking(fd, False)

    def _add_output(self, name: str) -> None:
        self.ours[name], write = os.pipe2(os.O_CLOEXEC)
        self.theirs.append(write)

    def write_spec(self, run: Run) -> None:
        spec = {"nonce": run.nonce, **{key: run.spec[key] for key in SPEC_KEYS}}
        with open(self.spec, "wb", closefd=False) as file:
            file.write(json.dumps(spec).encode())

    def close_theirs(self, keep_spec: bool = False) -> None:
        for fd in self.theirs:
            if not (keep_spec and fd == self.spec):
                os.close(fd)
        self.theirs = [self.spec] if keep_spec else []

    def close(self) -> None:
        self.close_theirs()
        for fd in self.ours.values():
            os.close(fd)


class WarmNode:
    """A node process that waits for the one run it will serve, under the uid of a slot that is free meanwhile."""

    def __init__(self, key: int, pipes: Pipes, go: int) -> None:
        self.key, self.pipes, self.go = key, pipes, go
        self.pid = 0

    def begin(self, run: Run) -> None:
        """Hands it the run. Raises OSError when it is no longer there."""
        run.cpu = -cpu_seconds(self.pid)  # its own start is not the user's
        self.pipes.write_spec(run)
        os.write(self.go, b"1")
        os.close(self.go)
        self.pipes.close_theirs()


class WarmNodes:
    """Keeps idle node processes, once a sandbox has shown that it runs JavaScript (or `--warm-node` says so)."""

    def __init__(self, zygote: Helper, options: Options, slots: list[Slot], keys: itertools.count[int]) -> None:
        self._zygote, self._slots, self._keys = zygote, slots, keys
        self._gid = options.user_uid
        self.target = options.warm_node
        self.available = False

    def top_up(self) -> None:
        if not self.available or not self._zygote.alive:
            return
        missing = self.target - sum(slot.warm is not None for slot in self._slots)
        # From the end: Python takes the first free slot, and would have to end the node that waits there.
        for slot in reversed(self._slots):
            if missing > 0 and slot.run is None and slot.warm is None:
                missing -= 1
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        try:
            pipes = Pipes(slot.uid, self._gid, stdin=True)
        except OSError as error:
            log("warning", "no_warm_node", error=repr(error))
            return
        read, go = os.pipe2(os.O_CLOEXEC)
        warm = WarmNode(next(self._keys), pipes, go)
        message = {"run": warm.key, "uid": slot.uid, "language": "javascript"}
        sent = self._zygote.send(message, (*pipes.theirs, read))
        os.close(read)
        pipes.close_theirs(keep_spec=True)
        slot.warm = warm
        if not sent:
            self._forget(slot, warm)

    def discard(self, slot: Slot) -> None:
        """Makes room for a run in another language. One that was still starting ends by itself: its pipe has closed."""
        if slot.warm is not None:
            kill_user(slot.uid)
            self._forget(slot, slot.warm)

    def _forget(self, slot: Slot, warm: WarmNode) -> None:
        slot.warm = None
        os.close(warm.go)
        warm.pipes.close()

    def take(self, slot: Slot) -> WarmNode | None:
        """The process that waits in this slot, if it is there yet."""
        warm = slot.warm
        if warm is None or not warm.pid:
            self.discard(slot)
            return None
        slot.warm = None
        return warm

    def says(self, message: dict[str, Any]) -> None:
        for slot in self._slots:
            warm = slot.warm
            if warm is not None and warm.key == message.get("run"):
                warm.pid = message.get("pid", 0)
                if not warm.pid:
                    self._forget(slot, warm)

    def ended(self, pid: int) -> None:
        for slot in self._slots:
            if slot.warm is not None and slot.warm.pid == pid:
                self._forget(slot, slot.warm)
