"""A file or an archive on its way from a client into a sandbox, piece by piece: nothing of it is kept on this side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from runtime.drivers.errors import ExecutorError, ExecutorRefused
from runtime.drivers.executor_client import Unpacked, Upload
from sandbox_platform.errors import ApiError, invalid
from sessions_app.models import Session
from sessions_app.services import workspace


class Incoming:
    """Connects with the first piece. A context manager: unless it was finished, nothing is left in the sandbox.

    A sandbox that refuses raises at the end, when the path is known too: the pieces that still come are dropped.
    """

    def __init__(self, session: Session, extract: bool = False) -> None:
        self._session, self._extract = session, extract
        self._upload: Upload | None = None
        self._problem: ApiError | ExecutorError | None = None

    def begin(self) -> None:
        """There is a file, be it empty."""
        try:
            self._upload = workspace.client_of(self._session).upload(self._extract)
        except (ApiError, ExecutorError) as error:
            self._problem = error

    def write(self, data: bytes) -> None:
        """One piece."""
        if self._problem is None and self._upload is not None:
            try:
                self._upload.write(data)
            except ExecutorError as error:
                self._problem = error
                self._upload.close()

    def drop(self) -> None:
        """It can't succeed any more: the sandbox may forget at once what it has."""
        if self._upload is not None:
            self._upload.close()
            self._upload = None

    def file(self, path: str) -> int:
        """All of it has come: its size in bytes. The old or the new content is there, never half."""
        with self._translating(path) as upload:
            size = upload.file(path)
        workspace.changed(self._session)
        return size

    def archive(self, path: str) -> Unpacked:
        """All of it has come: what was unpacked into the folder `path`, empty for the workspace itself."""
        with self._translating(path) as upload:
            unpacked = upload.archive(path)
        workspace.changed(self._session)
        return unpacked

    @contextmanager
    def _translating(self, path: str) -> Iterator[Upload]:
        try:
            if self._problem is not None:
                raise self._problem
            assert self._upload is not None
            yield self._upload
        except ExecutorError as error:
            raise self._translate(error, path) from error

    def _translate(self, error: ExecutorError, path: str) -> ApiError:
        if self._extract and isinstance(error, ExecutorRefused):
            words = str(error)[:500]
            match error.code:
                case "bad_request":
                    return invalid(
                        f"file: {words}",
                        "Send a tar (also .gz, .bz2, .xz) or zip of plain files and folders; nothing was unpacked",
                    )
                case "too_large":
                    return ApiError(
                        "PayloadTooLarge", f"file: {words}", solution="Unpack it in parts; nothing was unpacked"
                    )
                case "conflict" | "not_found":
                    return ApiError("Conflict", f"file: {words}")
                case "disk_full":
                    return ApiError(
                        "DiskFull", "The workspace has no room for what is in the archive; nothing of it was kept"
                    )
        return workspace.translate(error, path)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
