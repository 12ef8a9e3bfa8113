"""A file as an HTTP answer: streamed as an attachment, with ETag, Range and conditions."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import http_date, parse_http_date_safe
from rest_framework.request import Request

from sandbox_platform.errors import ApiError
from sessions_app.services.workspace import Content, mime_type

RANGE = re.compile(r"bytes=(\d{1,15})?-(\d{1,15})?")
Read = Callable[[int, int | None], Content]


def answer(request: Request | HttpRequest, path: str, read: Read) -> HttpResponseBase:
    """200, 206 or 304 of the file that `read(offset, length)` gives; raises 412 and 416."""
    whole = read(0, None)
    headers = {
        "ETag": whole.etag,
        "Last-Modified": http_date(whole.mtime),
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(path),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
        "Cache-Control": "private, no-cache",
    }
    if_match = request.headers.get("If-Match")
    if if_match and if_match != "*" and not _lists(if_match, whole.etag):
        _close(whole)
        raise ApiError("PreconditionFailed", "The file has another ETag by now")
    if _unchanged(request, whole):
        _close(whole)
        return HttpResponse(status=304, headers=headers)
    part = _part(request, whole)
    if part is None:
        return _stream(whole, 200, path, headers)
    _close(whole)
    offset, length = part
    if length <= 0:
        raise ApiError(
            "RangeNotSatisfiable",
            f"The file has {whole.size} bytes",
            headers={"Content-Range": f"bytes */{whole.size}"},
        )
    content = read(offset, length)
    if content.etag != whole.etag:  # it changed in between: a whole answer is never wrong
        _close(content)
        return _stream(read(0, None), 200, path, {**headers, "ETag": content.etag})
    return _stream(
        content, 206, path, {**headers, "Content-Range": f"bytes {offset}-{offset + length - 1}/{whole.size}"}
    )


def plain(request: Request) -> bool:
    """Whether nothing of the request would be lost on another server: conditions name our ETags, and links are signed for GET."""
    return request.method == "GET" and not any(name.lower().startswith("if-") for name in request.headers)


def redirect(url: str) -> HttpResponse:
    """307 to a link that is good for one client and a short time."""
    return HttpResponse(status=307, headers={"Location": url, "Cache-Control": "no-store"})


def disposition(path: str) -> str:
    """RFC 6266: an ASCII fallback without quotes or control characters, and the exact name in UTF-8."""
    name = path.rsplit("/", 1)[-1]
    plain = re.sub(r'[^\x20-\x7e]|["\\%;]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _stream(content: Content, status: int, path: str, headers: dict[str, str]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(content.body, status=status, content_type=mime_type(path), headers=headers)
    response["Content-Length"] = str(content.length)
    return response


def _close(content: Content) -> None:
    close = getattr(content.body, "close", None)
    if close:
        close()


def _lists(header: str, etag: str) -> bool:
    return any(item.strip().removeprefix("W/") == etag for item in header.split(","))


def _unchanged(request: Request | HttpRequest, content: Content) -> bool:
    if none_match := request.headers.get("If-None-Match"):
        return none_match.strip() == "*" or _lists(none_match, content.etag)
    since = parse_http_date_safe(request.headers.get("If-Modified-Since", ""))
    return since is not None and int(content.mtime) <= since


def _part(request: Request | HttpRequest, content: Content) -> tuple[int, int] | None:
    """Offset and length of the one range that is asked for; None for the whole: several ranges are answered by the whole."""
    match = RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if not match or match[0] == "bytes=-":
        return None
    if_range = request.headers.get("If-Range")
    if if_range and if_range != content.etag and if_range != http_date(content.mtime):
        return None
    if match[1] is None:
        length = min(int(match[2]), content.size)
        return content.size - length, length
    first = int(match[1])
    last = min(int(match[2]) if match[2] else content.size - 1, content.size - 1)
    if match[2] and int(match[2]) < first:
        return None
    return first, last - first + 1
