"""The contract that every runtime driver keeps.

One suite, `tests/drivers/contract`, holds all drivers to it.
"""

from __future__ import annotations

import datetime as dt
from typing import Protocol

from runtime.drivers.types import Resources, Sandbox, SandboxSpec, SandboxStats


class Driver(Protocol):
    """Makes, watches and removes sandboxes on one engine. Knows no database, HTTP or users.

    A driver is made with its instance id and its state folder, and sees only sandboxes of that instance. Its methods
    may be called from any thread and any process of the instance, and each ends within a deadline of its own. All
    raise `EngineUnavailable` where the engine does not answer.
    """

    name: str

    def check(self) -> None:
        """Raise `RuntimeUnsupported` (with the way to mend it) or `EngineUnavailable` if none can be made here now."""

    def create(self, spec: SandboxSpec) -> Sandbox:
        """Make the sandbox, start it, wait for its executor, attest it.

        The same name again gives the same sandbox (an earlier, half-made one is finished or made anew). On any error
        nothing is left behind. Raises `ImageUnavailable`, `NoCapacity`, `BootFailed`, `AttestationFailed`,
        `RuntimeUnsupported`.
        """

    def update(self, name: str, resources: Resources) -> None:
        """Give a running sandbox the cpu and memory of `resources`, and no other limit; done when it holds.

        The same again changes nothing. Raises `SandboxNotFound` (also where it does not run), `NoCapacity` where it uses
        more memory already, `RuntimeUnsupported` where its kind of runtime can't.
        """

    def inspect(self, name: str) -> Sandbox:
        """How the sandbox is now. Raises `SandboxNotFound`."""

    def remove(self, name: str) -> None:
        """Kill it and free all that it held: processes, cgroups, mounts, files. One that is gone is no error."""

    def list(self) -> list[Sandbox]:
        """Every sandbox of this instance, and every remainder of one (folders, mounts) as `EXITED`."""

    def logs(self, name: str, tail: int = 100, since: dt.datetime | None = None) -> str:
        """The executor's log, the last `tail` lines, each as `loglines.shown`. Raises `SandboxNotFound`."""

    def stats(self, name: str) -> SandboxStats:
        """Figures of the running sandbox, in well under a second. Raises `SandboxNotFound`."""
