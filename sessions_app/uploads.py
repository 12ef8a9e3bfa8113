"""A multipart upload, passed on while it is read: neither held in memory nor kept on disk."""

from __future__ import annotations

from typing import Any, cast

from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from rest_framework.request import Request

from sandbox_platform.errors import ApiError, invalid
from sessions_app.services.incoming import Incoming
from sessions_app.services.workspace import MAX_FILE, PIECE


class _Passing(FileUploadHandler):
    """Stops passing on at the limit, but goes on reading: a client that has sent a byte too much deserves its answer."""

    chunk_size = PIECE

    def __init__(self, incoming: Incoming) -> None:
        super().__init__()
        self._incoming = incoming
        self.names: list[str] = []
        self.received, self.too_large, self.whole = 0, False, False

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        """A part begins."""
        super().new_file(field_name, *args, **kwargs)
        self.names.append(field_name)
        if self.names == ["file"]:
            self._incoming.begin()
        else:
            self._incoming.drop()  # one too many, or one that nobody knows

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """One piece."""
        self.received += len(raw_data)
        if self.received > 2 * MAX_FILE:
            raise StopUpload(connection_reset=True)
        if self.received > MAX_FILE and not self.too_large:
            self.too_large = True
            self._incoming.drop()
        if not self.too_large:
            self._incoming.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        """A part ends."""


class _Counted:
    """What is read of the body. Raises 400 where the client stops before its end, UnreadablePostError where it stalls: a 400 as well."""

    def __init__(self, request: Any) -> None:
        self._request, self.left = request, int(request.META.get("CONTENT_LENGTH") or 0)

    def read(self, size: int) -> bytes:
        """Up to so many bytes."""
        data = cast(bytes, self._request.read(size))
        self.left -= len(data)
        if not data and self.left > 0:
            raise invalid("The body ended before its Content-Length")
        return data


def check(request: Request) -> None:
    """What can be told before the body is read. 413 or 415."""
    if not (request.content_type or "").lower().startswith("multipart/form-data"):
        raise ApiError(
            "UnsupportedMediaType",
            "An upload is multipart/form-data",
            solution="Send the parts 'file' and 'path' as a form",
        )
    length = request.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length) > 2 * MAX_FILE:
        raise _too_large()


def receive(request: Request, incoming: Incoming, need_path: bool = True) -> str | None:
    """Pass the file of the form on; its path, which may come before or after it. 400 or 413."""
    plain = request._request
    passing = _Passing(incoming)
    try:
        body: Any = _Counted(plain)
        form, _ = MultiPartParser(plain.META, body, [passing], plain.encoding).parse()
    except (MultiPartParserError, ValueError, LookupError) as error:  # an encoding that is none is the latter
        raise invalid("The form is malformed") from error
    if passing.too_large:
        raise _too_large()
    extra = sorted({*form, *passing.names} - {"file", "path"})
    if extra:
        raise invalid(f"{extra[0][:100]}: unknown part of the form; known are file and path")
    if passing.names.count("file") != 1 or "file" in form:
        raise invalid("file: send exactly one file")
    if len(form.getlist("path")) > 1 or "path" in passing.names or (need_path and "path" not in form):
        raise invalid("path: send it once")
    path = form.get("path")
    if path is not None and "\ufffd" in path:  # what Django makes of bytes that are no text
        raise invalid("path: is not valid UTF-8")
    return path


def _too_large() -> ApiError:
    return ApiError("PayloadTooLarge", f"The file is larger than {MAX_FILE} bytes", solution="Split the file")
