"""From a run that was accepted to a process that runs it: once, whatever dies on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from executor.claim import take_back
from executor.cli import Options
from executor.helper import Helper
from executor.log import log
from executor.loop import Loop
from executor.pumps import Pumps
from executor.runs import Run
from executor.slots import Pipes, Slot, WarmNodes
from executor.waiting import Waiting

START_PATIENCE = 60.0  # seconds that the zygote may take to answer, its imports included
SCAN_PATIENCE = 5.0  # seconds for the look at the workspace
REPLACE_PATIENCE = 5.0  # seconds that a run waits for a zygote in place of one that died
ASK_AGAIN = 0.02
BECOME_PATIENCE = 1.0
MAX_TRIES = 3  # processes that are asked for, for one run: they or their zygote may die before its code begins


class Starter:
    """`began` gets the process (pid, and when by the monotonic clock), `fail` the words for why there is none."""

    def __init__(
        self,
        loop: Loop,
        options: Options,
        zygote: Helper,
        files: Helper,
        nodes: WarmNodes,
        pumps: Pumps,
        began: Callable[[Slot, Run, int, float], None],
        fail: Callable[[Slot, str], None],
    ) -> None:
        self._loop, self._options, self._zygote, self._files, self._nodes = loop, options, zygote, files, nodes
        self._pumps, self._began, self._fail = pumps, began, fail
        self.waiting = Waiting(loop, options, zygote)
        self._known_root: list[int] | None = None
        self._ready: dict[int, Pipes] = {}  # by uid

    def limit(self, slot: Slot) -> None:
        """From now on it has so long for a process."""
        slot.timers["start"] = self._loop.later(START_PATIENCE, partial(self._late, slot))

    def prepare(self, uid: int) -> None:
        """Makes pipes for that user's next run, while there is nothing else to do."""
        if uid not in self._ready:
            with suppress(OSError):
                self._ready[uid] = Pipes(uid, self._options.user_uid, stdin=False)

    def forget_workspace(self) -> None:
        """The file helper knows it no more."""
        self._known_root = None

    def announce(self, slot: Slot, run: Run) -> None:
        """Tells the file helper what begins; waits for its scan only where it has not seen this workspace yet.

        Elsewhere the run comes first: there are few cores, and a helper that wakes beside the run's process takes one from it.
        """
        try:
            info = os.stat(self._options.workspace)
        except OSError as error:
            return self._fail(slot, f"no workspace: {error.strerror}; user code has not begun")
        root = [info.st_dev, info.st_ino]
        known, self._known_root = root == self._known_root, root
        message = {"begin": run.key, "uid": slot.uid, "at": time.time_ns(), "root": root, "tell": not known}
        if known:
            self.launch(slot, run)
            if run.state in ("starting", "running"):
                self._files.send(message)
        elif self._files.send(message):
            slot.timers["begin"] = self._loop.later(SCAN_PATIENCE, partial(self.launch, slot, run))
        else:
            self.launch(slot, run)

    def launch(self, slot: Slot, run: Run) -> None:
        """Hands code and pipes to the child that waits, or else to the zygote."""
        if slot.run is not run or run.state != "starting" or slot.pipes:
            return
        slot.cancel_timer("begin")
        try:
            if run.spec["language"] == "javascript":
                self._nodes.target = max(1, self._nodes.target)
                if self._warm(slot, run):
                    return
            self._nodes.discard(slot)
            pipes = self._pipes(slot.uid, run.spec["stdin"] is not None)
            pipes.write_spec(run)
        except OSError as error:
            return self._fail(slot, f"not started: {error.strerror}; user code has not begun")
        slot.unsent = pipes
        pid = self._give(slot, run)
        if not pid:
            self._ask(slot, run, time.monotonic() + REPLACE_PATIENCE)
        if run.state != "starting":
            return pipes.close()
        self._pumps.attach(slot, run, pipes)
        if pid:
            self._began(slot, run, pid, time.monotonic())

    def _pipes(self, uid: int, stdin: bool) -> Pipes:
        ready = None if stdin else self._ready.pop(uid, None)
        return ready or Pipes(uid, self._options.user_uid, stdin)

    def _give(self, slot: Slot, run: Run) -> int:
        """The pid of the child that waited, and has the run and its pipes now; 0 where none did."""
        assert slot.unsent is not None
        pid = 0
        if run.spec["language"] != "javascript":
            pid = self.waiting.give(run, _message(run), tuple(slot.unsent.theirs))
        if pid:
            self._handed(slot, run)
        return pid

    def _handed(self, slot: Slot, run: Run) -> None:
        assert slot.unsent is not None
        run.zygote, run.tries = self._zygote.pid, run.tries + 1
        slot.unsent.close_theirs(keep_spec=True)
        slot.asked, slot.unsent = slot.unsent, None

    def _ask(self, slot: Slot, run: Run, until: float) -> None:
        """Hands the pipes to the zygote, as soon as there is one."""
        slot.cancel_timer("ask")
        assert slot.unsent is not None
        if self._zygote.send(_message(run), tuple(slot.unsent.theirs)):
            self._handed(slot, run)
        elif time.monotonic() < until:
            slot.timers["ask"] = self._loop.later(ASK_AGAIN, partial(self._ask, slot, run, until))
        else:
            self._fail(slot, "the interpreter could not be replaced; user code has not begun")

    def unanswered(self, slot: Slot, run: Run, problem: str) -> None:
        """The zygote was asked for a process and will not answer. The run starts anew if no process of it can ever begin."""
        assert slot.asked is not None
        if not take_back(slot.asked.spec):
            # That process may be ours still: it can be found and killed once it has become the user.
            fail = partial(self._fail, slot, f"{problem}; user code may have begun")
            slot.timers["ask"] = self._loop.later(BECOME_PATIENCE, fail)
            return
        self._anew(slot, run, problem)

    def stillborn(self, slot: Slot, run: Run) -> None:
        """Its process ended and had not taken the request: whoever runs short of memory may kill one that only waits."""
        slot.cancel_timer("deadline")
        run.state, run.pid, run.status, run.cpu, run.rss = "starting", 0, None, 0.0, 0
        self.limit(slot)
        self._anew(slot, run, "its process ended before it took the run")

    def _anew(self, slot: Slot, run: Run, problem: str) -> None:
        """Asks for another process. The request has been taken back from the one before, which can happen once."""
        if run.cause or run.tries >= MAX_TRIES:
            return self._fail(slot, f"{problem}; user code has not begun")
        log("warning", "run_starts_anew", run=run.id, request_id=run.request_id, tries=run.tries)
        slot.forget_theirs()
        for fd in list(slot.pipes):
            self._pumps.close(slot, fd)
        self.launch(slot, run)

    def _warm(self, slot: Slot, run: Run) -> bool:
        warm = self._nodes.take(slot)
        if warm is None:
            return False
        warm.begin(run)
        self._pumps.attach(slot, run, warm.pipes)
        self._began(slot, run, warm.pid, time.monotonic())
        return True

    def _late(self, slot: Slot) -> None:
        begun = slot.asked is not None and not take_back(slot.asked.spec)
        self._fail(slot, f"no process within a minute; user code {'may have begun' if begun else 'has not begun'}")


def _message(run: Run) -> dict[str, Any]:
    return {"run": run.key, "uid": run.uid, "language": run.spec["language"]}
