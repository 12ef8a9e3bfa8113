"""Sessions that start with a copy of another one's files."""

from __future__ import annotations

import structlog

from sandbox_platform.errors import ApiError, invalid
from sessions_app.models import Reason, Session, SessionStatus
from sessions_app.services import saved, workspace
from sessions_app.services.storage import StorageUnavailable

log = structlog.get_logger(__name__)
PASSING = ("RuntimeUnavailable", "ServiceUnavailable")


class CannotFill(Exception):
    """The files could not be copied. `passing`: another try may fare better."""

    def __init__(self, words: str, passing: bool, reason: Reason = Reason.START_FAILED) -> None:
        super().__init__(words)
        self.passing, self.reason = passing, reason


def source(session: Session) -> Session:
    """The session, if it has files to give. Raises 409 before it runs, 400 once its files are gone."""
    if session.status == SessionStatus.CREATING:
        raise ApiError("Conflict", "workspace_from: that session is still being created", headers={"Retry-After": "2"})
    if session.ended and (session.purge or saved.over(session)):
        raise invalid("workspace_from: the files of that session are gone")
    return session


def fill(session: Session) -> None:
    """Copy all files of `session.workspace_from` into its sandbox, which nobody uses yet. Safe to repeat. Raises CannotFill.

    Each file is as it was at one moment; of a source that is at work they may be of different moments.
    """
    origin = Session.objects.select_related("container").get(pk=session.workspace_from_id)
    try:
        for entry in workspace.every_file(origin):
            _copy(origin, session, entry.path)
    except ApiError as error:
        log.warning("fork_failed", session=session.pk, source=origin.pk, error=error.detail)
        reason = Reason.DISK_FULL if error.code == "DiskFull" else Reason.START_FAILED
        raise CannotFill(f"Files could not be copied: {error.detail}", error.code in PASSING, reason) from error
    except StorageUnavailable as error:
        raise CannotFill("The storage of files does not answer", passing=True) from error


def _copy(origin: Session, session: Session, path: str) -> None:
    try:
        content = workspace.read(origin, path)
    except ApiError as error:
        if error.code == "FileNotFound" and not origin.ended:
            return  # the source is at work, and has deleted it
        raise
    workspace.upload(session, path, content.body)
