"""What may go wrong between the control plane and an engine or an executor.

Nothing here knows HTTP statuses of ours or rows.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class DriverError(Exception):
    """The engine could not do what was asked. `transient` says whether trying again may help."""

    transient = False


class EngineUnavailable(DriverError):
    """The engine does not answer, or not in time."""

    transient = True


class ImageUnavailable(DriverError):
    """The image is not there and can't be had."""


class SandboxNotFound(DriverError):
    """The engine knows no such sandbox."""


class NoCapacity(DriverError):
    """The engine has no room: memory, disk, processes, loop devices."""

    transient = True


class DiskFull(NoCapacity):
    """The host's own disk is full."""


class AttestationFailed(DriverError):
    """The sandbox that came up is not the one that was asked for. It has been removed."""

    def __init__(self, mismatches: list[str]) -> None:
        super().__init__("The sandbox does not match its specification: " + "; ".join(mismatches))
        self.mismatches = mismatches


class BootFailed(DriverError):
    """The sandbox started, but its executor never became ready. `log` holds the last 4 KiB of what it said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class RuntimeUnsupported(DriverError):
    """This host can't run this driver (not root, no bubblewrap, no such OCI runtime).

    The message says how to mend it.
    """


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN})


@contextmanager
def os_errors() -> Iterator[None]:
    """What the kernel refuses inside becomes a `DriverError`: `NoCapacity` where it is for want of room."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else NoCapacity
        raise (kind if error.errno in NO_ROOM else DriverError)(str(error)) from error


class ExecutorError(Exception):
    """Base of what talking to an executor may raise."""


class ExecutorUnavailable(ExecutorError):
    """No connection, a connection that broke, or a deadline that passed."""


class ExecutorProtocolError(ExecutorError):
    """What came back is not the protocol: treat the sandbox as hostile."""


class ExecutorRefused(ExecutorError):
    """The executor answered with an error. `code` is its `error` word, `status` its HTTP status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
