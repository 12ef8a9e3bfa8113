"""A multipart upload, spooled to disk in the state folder and never held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import StopUpload, TemporaryFileUploadHandler
from django.http.multipartparser import MultiPartParserError
from rest_framework.request import Request

from sandbox_platform.errors import ApiError, invalid
from sessions_app.services.workspace import MAX_FILE, PIECE


class _Bounded(TemporaryFileUploadHandler):
    """Stops keeping at the limit, but goes on reading: a client that has sent a byte too much deserves its answer."""

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.received, self.too_large = 0, False

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """One piece."""
        self.received += len(raw_data)
        self.too_large = self.too_large or self.received > MAX_FILE
        if self.received > 2 * MAX_FILE:
            raise StopUpload(connection_reset=True)
        if not self.too_large:
            self.file.write(raw_data)


def receive(request: Request) -> tuple[UploadedFile, str]:
    """The file and the path of the form. 400, 413 or 415."""
    if not (request.content_type or "").lower().startswith("multipart/form-data"):
        raise ApiError(
            "UnsupportedMediaType",
            "An upload is multipart/form-data",
            solution="Send the parts 'file' and 'path' as a form",
        )
    length = request.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length) > 2 * MAX_FILE:
        raise _too_large()
    plain = request._request
    bounded = _Bounded(plain)
    plain.upload_handlers = [bounded]
    try:
        form, files = plain.POST, plain.FILES
    except (MultiPartParserError, ValueError, UnicodeError) as error:
        raise invalid("The form is malformed") from error
    if bounded.too_large:
        raise _too_large()
    extra = sorted({*form, *files} - {"file", "path"})
    if extra:
        raise invalid(f"{extra[0][:100]}: unknown part of the form; known are file and path")
    if len(files.getlist("file")) != 1 or "file" in form:
        raise invalid("file: send exactly one file")
    if len(form.getlist("path")) != 1:
        raise invalid("path: send it once")
    if "\ufffd" in form["path"]:  # what Django makes of bytes that are no text
        raise invalid("path: is not valid UTF-8")
    return cast(UploadedFile, files["file"]), form["path"]


def _too_large() -> ApiError:
    return ApiError("PayloadTooLarge", f"The file is larger than {MAX_FILE} bytes", solution="Split the file")


def pieces(file: UploadedFile) -> Iterator[bytes]:
    """Its bytes."""
    return file.chunks(PIECE)
