"""Starts runs in slots, follows them, and ends them: nothing of a run is alive when its result is given."""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from functools import partial
from typing import Any

from executor import procfs
from executor.claim import take_back
from executor.cli import Options
from executor.grants import grant
from executor.helper import Helper
from executor.linux import oom_kills
from executor.log import log
from executor.loop import Loop
from executor.privileges import kill_known, kill_user, processes_of
from executor.pumps import Pumps
from executor.runs import MAX_WORDS, Run, fit
from executor.slots import Slot, WarmNodes
from executor.starter import SCAN_PATIENCE, Starter
from executor.wiper import Wiper
from executor.wire import Fault

# Seconds until those who follow hear of a start by itself: with the end of a short run they are woken once.
TELL_AFTER = 0.003
PREPARE_AFTER = 0.002  # seconds after the end of a run, whose telling that would hold up
MAX_HELD = 256
MAX_HELD_BYTES = 64 * 1024 * 1024
MAX_REMEMBERED = 100_000


class Supervisor:
    def __init__(self, loop: Loop, options: Options, zygote: Helper, files: Helper) -> None:
        self._loop, self._options, self._zygote, self._files = loop, options, zygote, files
        self.slots = [Slot(uid) for uid in options.slot_uids]
        self.runs: dict[str, Run] = {}
        self.acknowledged: dict[str, None] = {}
        self.preloaded: list[str] = []
        self.preload_errors: dict[str, str] = {}
        self.node: str | None = None
        self._zygote_ready = self._node_known = False
        self._keys = itertools.count(1)
        self._used: set[int] = set()  # uids that may have left something in the scratch folders
        self._wiper = Wiper(loop, zygote, self._keys)
        self.nodes = WarmNodes(zygote, options, self.slots, self._keys)
        self._pumps = Pumps(loop, self._end)
        self._starter = Starter(loop, options, zygote, files, self.nodes, self._pumps, self._started, self._fail)
        loop.on_child = self.reap
        zygote.on_message, zygote.on_death = self._zygote_says, self._zygote_died
        files.on_message, files.on_death = self._files_say, self._files_died

    # -- the verbs --------------------------------------------------------------------------------------------------

    def find(self, run_id: str) -> Run:
        run = self.runs.get(run_id)
        if run is None:
            raise Fault("gone", "acknowledged") if run_id in self.acknowledged else Fault("not_found", "no such run")
        return run

    def start(self, run_id: str, spec: dict[str, Any]) -> Run:
        """Starts a new run. Raises Fault busy or full."""
        held = [run for run in self.runs.values() if run.state == "done"]
        if len(held) >= MAX_HELD or sum(run.held for run in held) >= MAX_HELD_BYTES:
            raise Fault("full", "too many results wait to be acknowledged")
        slot = self._choose(spec["language"])
        run = Run(next(self._keys), run_id, spec, slot.uid)
        run.oom_before, run.zygote = oom_kills(), self._zygote.pid
        self.runs[run_id] = run
        slot.run = run
        self._used.add(slot.uid)
        self._starter.limit(slot)
        log("debug", "run_accepted", run=run.id, request_id=run.request_id, uid=slot.uid)
        if self._wiper.busy:
            self._wiper.then(partial(self._starter.announce, slot, run))
        else:
            self._starter.announce(slot, run)
        return run

    def _choose(self, language: str) -> Slot:
        """JavaScript goes where a node waits; the others to the lowest slot, if they can where none does."""
        free = [slot for slot in self.slots if slot.run is None]
        if not free:
            raise Fault("busy", "every slot is taken")
        wanted = language == "javascript"
        return next((slot for slot in free if (slot.warm is not None) == wanted), free[0])

    def cancel(self, run: Run) -> None:
        slot = self._slot_of(run)
        if slot is not None and run.state in ("starting", "running") and not run.cause:
            run.cause = "cancelled"
            if run.state == "running":
                self._end(slot)

    def acknowledge(self, run: Run) -> None:
        if run.state != "done":
            raise Fault("running", "the run has not ended")
        del self.runs[run.id]
        self.acknowledged[run.id] = None
        while len(self.acknowledged) > MAX_REMEMBERED:
            del self.acknowledged[next(iter(self.acknowledged))]

    def hand_over(self, fd: int, data: bytes) -> bool:
        """Gives a connection about files to the file helper."""
        return self._files.send({"serve": 1}, (fd,), data)

    @property
    def active(self) -> int:
        return sum(slot.run is not None for slot in self.slots)

    @property
    def ready(self) -> bool:
        return self._zygote_ready and self._node_known

    def node_found(self, version: str | None) -> None:
        self.node, self._node_known = version, True
        self.nodes.available = version is not None
        self.nodes.top_up()

    # -- starting ---------------------------------------------------------------------------------------------------

    def _started(self, slot: Slot, run: Run, pid: int, at: float) -> None:
        slot.cancel_timer("start")
        run.pid, run.started, run.started_at, run.state = pid, at, time.time(), "running"
        log("debug", "run_started", run=run.id, request_id=run.request_id, child=pid)
        if run.cause or run.said_how:
            return self._end(slot)
        if any(stream.total for stream in run.streams.values()):  # printed before its zygote told of it
            run.notify()
        else:
            slot.timers["tell"] = self._loop.later(TELL_AFTER, run.notify)
        remaining = run.spec["timeout"] - (time.monotonic() - at)
        slot.timers["deadline"] = self._loop.later(remaining, partial(self._timed_out, slot, run))

    def _timed_out(self, slot: Slot, run: Run) -> None:
        if run.state == "running":
            run.cause = "timeout"
            self._end(slot)

    def _fail(self, slot: Slot, problem: str) -> None:
        run = slot.run
        if run is not None and run.state in ("starting", "running"):
            run.problem = problem
            self._end(slot)

    # -- following --------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Collects orphans: daemons, children of what we killed, and children of a zygote that died."""
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info is None:
                    break
                pid, status, usage = os.wait4(info.si_pid, 0)
            except ChildProcessError:
                break
            run = next((slot.run for slot in self.slots if slot.uid == info.si_uid), None)
            if run is not None:
                run.account(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
            self._process_ended(pid, status)
        self._check_dying()

    def _process_ended(self, pid: int, status: int) -> None:
        self._wiper.ended(pid)
        self.nodes.ended(pid)
        for slot in self.slots:
            run = slot.run
            if run is not None and run.pid == pid and run.status is None:
                run.status = status
                if run.state == "running" and slot.asked is not None and take_back(slot.asked.spec):
                    self._starter.stillborn(slot, run)
                elif run.state == "running":
                    self._end(slot)

    def _check_dying(self) -> None:
        for slot in self.slots:
            if slot.run is not None and slot.run.state == "ending" and "sweep" in slot.timers:
                self._sweep(slot, slot.run)

    # -- ending -----------------------------------------------------------------------------------------------------

    def _end(self, slot: Slot) -> None:
        """The run is over, whatever the reason: kill all that it has."""
        run = slot.run
        assert run is not None
        run.ended = time.monotonic()
        run.started = run.started or run.ended
        run.state = "ending"
        for name in list(slot.timers):
            slot.cancel_timer(name)
        slot.forget_theirs()
        slot.swept = False
        if kill_known(slot.uid) == [run.pid] and run.said_how and procfs.threads(run.pid) == 1:
            # Nothing of the run does anything any more: its artifacts can be listed while the kernel takes its process apart.
            slot.listing = self._files.send({"end": run.key})
        self._sweep(slot, run)

    def _sweep(self, slot: Slot, run: Run, pause: float = 0.001) -> None:
        """Comes back until no process of the slot is left, zombies included, and its main process is accounted for."""
        slot.cancel_timer("sweep")
        if slot.run is not run or run.state != "ending":
            return
        awaited = self._awaited(run)
        left = [run.pid] if awaited else processes_of(slot.uid)
        if not left and not slot.swept:
            # What we see is dead. Only now do we wear the user's uid, to end in one stroke what forks too fast to be seen.
            kill_user(slot.uid)
            slot.swept = True
            left = processes_of(slot.uid)
        if left:
            if pause > 0.004:  # at first they are only slow to die
                kill_user(slot.uid)
                slot.swept = True
            if time.monotonic() - run.ended > 2.0 and pause >= 0.064:
                log("error", "run_does_not_die", run=run.id, processes=len(left))
            pause = min(2 * pause, 0.064)
            slot.timers["sweep"] = self._loop.later(pause, partial(self._sweep, slot, run, pause))
            return
        self._collect(slot, run)

    def _awaited(self, run: Run) -> bool:
        """Whether the end of its main process has still to be told, by its zygote or, if that died, by the kernel."""
        if run.status is not None or not run.pid:
            return False
        told_by_zygote = self._zygote.alive and self._zygote.pid == run.zygote
        return told_by_zygote or procfs.owner(run.pid) is not None

    def _collect(self, slot: Slot, run: Run) -> None:
        """All are dead: asks for the artifacts, unless that was done, and meanwhile reads what the pipes still hold."""
        run.state = "collecting"
        asked = slot.listing or self._files.send({"end": run.key})
        for fd, name in list(slot.pipes.items()):
            if name != "stdin":
                while self._pumps.drain(slot, run, fd, name):
                    pass
            if fd in slot.pipes:
                self._pumps.close(slot, fd)
        run.oom_after = oom_kills()
        if slot.listing and run.listed is not None:
            self._finish(slot, run, *run.listed)
        elif asked:
            slot.timers["scan"] = self._loop.later(SCAN_PATIENCE, partial(self._finish, slot, run, [], True))
        else:
            self._finish(slot, run, [], True)

    def _finish(self, slot: Slot, run: Run, artifacts: list[dict[str, Any]], truncated: bool) -> None:
        if slot.run is not run or run.state != "collecting":
            return
        slot.cancel_timer("scan")
        run.artifacts, run.artifacts_truncated = artifacts, truncated
        slot.run, slot.listing = None, False
        run.finish()
        self._starter.waiting.tell()
        log("info", "run_ended", run=run.id, request_id=run.request_id, outcome=run.outcome)
        if not self.active:
            if self._options.apart:
                self._zygote.send({"idle": True})
            self._wiper.start(sorted(self._used))
            self._used.clear()
            self._loop.later(PREPARE_AFTER, self._prepare)
        self.nodes.top_up()

    def _prepare(self) -> None:
        """For the first slot: that is where a run goes that comes alone."""
        if not self.active:
            self._starter.prepare(self.slots[0].uid)

    # -- the helpers ------------------------------------------------------------------------------------------------

    def _slot_of(self, run: Run) -> Slot | None:
        return next((slot for slot in self.slots if slot.run is run), None)

    def _by_key(self, key: int) -> tuple[Slot, Run] | None:
        return next(((slot, slot.run) for slot in self.slots if slot.run is not None and slot.run.key == key), None)

    def _zygote_says(self, message: dict[str, Any], fds: list[int]) -> None:
        if "ahead" in message:
            self._starter.waiting.came(message["ahead"], fds[0], message["asked"])
        elif "exit" in message:
            self._starter.waiting.ended(message["exit"])
            for slot in self.slots:
                if slot.run is not None and slot.run.pid == message["exit"]:
                    slot.run.account(message["cpu"], message["rss"])
            self._process_ended(message["exit"], message["status"])
            self._check_dying()
        elif "ready" in message:
            self._zygote_ready = True
            self.preloaded = message["preloaded"]
            self.preload_errors = {name: fit(words, MAX_WORDS) for name, words in message["preload_errors"].items()}
            self._prepare()
            log("info", "ready", preloaded=self.preloaded, errors=self.preload_errors or None)
            self.nodes.top_up()
        elif found := self._by_key(message["run"]):
            slot, run = found
            if run.state == "starting" and "pid" in message:
                self._started(slot, run, message["pid"], message["at"])
            elif "error" in message:
                self._fail(slot, message["error"] + "; user code has not begun")
            elif run.state == "ending":
                run.pid = message["pid"]
        else:
            self._wiper.says(message)
            self.nodes.says(message)

    def _zygote_died(self) -> None:
        self._zygote_ready = False
        self._starter.waiting.forget()
        for slot in self.slots:
            if slot.run is not None and slot.run.state == "starting" and slot.asked is not None:
                self._starter.unanswered(slot, slot.run, "the interpreter died while it was asked for a process")

    def _files_say(self, message: dict[str, Any], fds: list[int]) -> None:
        if "grant" in message:
            with suppress(OSError), open(fds[0], "wb", buffering=0) as answer:  # the asker may have died
                answer.write(b"1" if grant(message["grant"], self._options) else b"0")
        elif "begun" in message and (found := self._by_key(message["begun"])):
            self._starter.launch(*found)
        elif "ended" in message and (found := self._by_key(message["ended"])):
            self._listed(*found, message["artifacts"], message["truncated"])

    def _listed(self, slot: Slot, run: Run, artifacts: list[dict[str, Any]], truncated: bool) -> None:
        run.listed = run.listed or (artifacts, truncated)
        self._finish(slot, run, *run.listed)

    def _files_died(self) -> None:
        self._starter.forget_workspace()
        for slot in self.slots:
            run = slot.run
            if run is not None and "begin" in slot.timers:
                self._starter.launch(slot, run)
            elif run is not None and (slot.listing or run.state == "collecting"):
                self._listed(slot, run, [], True)
