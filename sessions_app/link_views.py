"""/links/{token}: the signed URLs of a service whose files are in a folder. Whoever has the URL needs no token."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from sandbox_platform.errors import ApiError
from sessions_app import downloads
from sessions_app.models import Session
from sessions_app.services import links, storage, workspace
from sessions_app.services.storage import PIECE


@csrf_exempt
def link(request: HttpRequest, token: str) -> HttpResponseBase:
    """GET and HEAD give a file, PUT takes one. A URL that is forged or whose time is over is 404."""
    try:
        if request.method in ("GET", "HEAD"):
            session, path = links.read_download(token)
            return downloads.answer(
                request, path, lambda offset, length: workspace.read_stored(session, path, offset, length)
            )
        if request.method == "PUT":
            return _take(request, links.read_upload(token))
    except (signing.BadSignature, ValueError, TypeError):
        raise ApiError("NotFound", "There is no such link, or its time is over") from None
    raise ApiError("MethodNotAllowed", "A link is for GET or PUT", headers={"Allow": "GET, HEAD, PUT"})


def _take(request: HttpRequest, upload: links.Upload) -> HttpResponse:
    session = Session.objects.filter(pk=upload.session_id).first()
    if session is None or session.ended:
        raise ApiError("NotFound", "The session has ended")
    most = links.limit(session)
    length = request.headers.get("Content-Length", "")
    if not (length.isascii() and length.isdigit()):
        raise ApiError("InvalidParameter", "Content-Length: is needed")
    if int(length) > most:
        raise ApiError("PayloadTooLarge", f"The file is larger than the session's disk of {session.disk}")
    try:
        with links.room(session, upload, int(length)):
            storage.current().write(upload.name, _body(request, int(length)))
    except storage.StorageUnavailable as error:
        raise workspace.unavailable(error) from error
    return HttpResponse(status=200)


def _body(request: HttpRequest, length: int) -> Iterator[bytes]:
    left = length
    while left:
        data = request.read(min(PIECE, left))
        if not data:
            raise ApiError("InvalidParameter", "The body ended before its Content-Length")
        left -= len(data)
        yield data
