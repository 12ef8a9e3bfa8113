"""/sessions/{id}/files."""

from __future__ import annotations

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sandbox_platform import idempotency, pagination
from sandbox_platform.errors import ApiError
from sandbox_platform.openapi import BINARY, IDEMPOTENCY_KEY, operation, shown
from sandbox_platform.renderers import AnyAccept
from sessions_app import archives, downloads, uploads
from sessions_app.models import Session, SessionStatus
from sessions_app.serializers import FileList, UploadDone, UploadIn, UploadOut, UploadUrl, UploadUrlIn
from sessions_app.services import links, workspace
from sessions_app.services.incoming import Incoming
from sessions_app.views import await_start, find, not_found

# Seconds that a file operation waits for a session that is still being created.
START_WAIT = 30
CONDITIONS = {
    "Range": "One range: `bytes=0-99`, answered by 206. Several are answered by the whole file.",
    "If-Range": "An ETag, or a time as `Last-Modified` gave it: the range only if the file is still that one, else the whole file.",
    "If-None-Match": "ETags: 304 if the file still has one of them.",
    "If-Modified-Since": "304 if the file is no newer. Not looked at beside `If-None-Match`.",
    "If-Match": "ETags: 412 unless the file has one of them.",
}


def started(request: Request, session_id: str, live: bool = False) -> Session:
    """The session, once its sandbox is up. 503 where that takes too long; 404 where it failed meanwhile and `live` is asked."""
    session = find(request, session_id, live=live)
    if session.status == SessionStatus.CREATING:
        session = await_start(session, START_WAIT)
        if session.status == SessionStatus.CREATING:
            raise ApiError("RuntimeUnavailable", "The session's sandbox is not up yet", headers={"Retry-After": "2"})
        if live and session.ended:
            raise not_found(session_id)
    return session


class FilesView(APIView):
    """The list."""

    @operation(
        "list_files", "List files of the workspace", tag="files",
        responses={(200, "application/json"): FileList, (200, "application/gzip"): OpenApiTypes.BINARY},
        errors=["SessionNotFound", "RuntimeUnavailable", "PayloadTooLarge"],
        parameters=[
            OpenApiParameter("prefix", description="Only paths that begin with it."),
            OpenApiParameter("recursive", bool, description="Also what lies in folders (default true)."),
            OpenApiParameter("archive", enum=["tar.gz"], description="The files themselves, in one archive. Up to 10,000."),
        ],
    )  # fmt: skip
    def get(self, request: Request, session_id: str) -> HttpResponseBase:
        """Regular files. Also for 24 h after the session's end."""
        query = pagination.known_only(request, "prefix", "recursive", "archive")
        archive = pagination.choice(query, "archive", ["tar.gz"])
        prefix = query.get("prefix", "")
        if prefix:
            workspace.check_path(prefix.removesuffix("/"), "prefix")
        recursive = pagination.boolean(query, "recursive", True)
        session = started(request, session_id)
        entries, truncated = workspace.listing(session, prefix, recursive)
        if archive and truncated:
            raise ApiError(
                "PayloadTooLarge", "There are more files than one archive may have",
                solution="Ask for its folders one by one, by prefix",
            )  # fmt: skip
        if archive:
            return archives.answer(session.pk, entries, lambda path: workspace.read(session, path))
        files = [entry.as_json() for entry in entries]
        return Response({"files": files, "total": len(files), "truncated": truncated})


class FileView(APIView):
    """One file, at any path."""

    content_negotiation_class = AnyAccept

    @operation(
        "download_file", "Download a file", tag="files",
        responses={
            **BINARY,
            (206, "application/octet-stream"): OpenApiResponse(
                OpenApiTypes.BINARY, description="The range that was asked for, of the same `Content-Type`."
            ),
            304: OpenApiResponse(description="The file is as `If-None-Match` or `If-Modified-Since` knows it."),
            307: OpenApiResponse(description="To a URL that gives the file for five minutes."),
        },
        errors=["SessionNotFound", "FileNotFound", "RuntimeUnavailable", "PreconditionFailed", "RangeNotSatisfiable"],
        parameters=[
            *(OpenApiParameter(name, str, OpenApiParameter.HEADER, description=words) for name, words in CONDITIONS.items()),
            OpenApiParameter("redirect", bool, description=(
                "Absent: a 307 to S3 for files above 10 MiB whose copy there is current, where the service keeps files in S3. "
                "`true`: a 307 wherever there is a current copy, of any size and in any storage. `false`: always streamed."
            )),
        ],
    )  # fmt: skip
    def get(self, request: Request, session_id: str, name: str) -> HttpResponseBase:
        """Streamed as an attachment. Also for 24 h after the session's end."""
        query = pagination.known_only(request, "redirect")
        asked = pagination.boolean(query, "redirect", True) if "redirect" in query else None
        path = workspace.check_path(name)
        session = started(request, session_id)
        if downloads.plain(request):
            url = links.download(session, path, asked, downloads.disposition(path))
            if url:
                return downloads.redirect(url)
        return downloads.answer(request, path, lambda offset, length: workspace.read(session, path, offset, length))

    @operation("delete_file", "Delete a file", tag="files", responses={204: None},
               errors=["SessionNotFound", "FileNotFound", "RuntimeUnavailable"])  # fmt: skip
    def delete(self, request: Request, session_id: str, name: str) -> Response:
        """Of a live session."""
        path = workspace.check_path(name)
        workspace.delete(started(request, session_id, live=True), path)
        return Response(status=204)


@extend_schema_view(get=extend_schema(exclude=True), delete=extend_schema(exclude=True))
class UploadView(FileView):
    """`POST .../files/upload`. A file of that very name is reached by the same path with the other methods."""

    @operation(
        "upload_file", "Upload a file, or unpack an archive", tag="files", request={"multipart/form-data": UploadIn},
        responses={200: UploadOut}, errors=["SessionNotFound", "RuntimeUnavailable", "Conflict", "DiskFull"],
        examples=[
            shown("Stored", {"path": "data/input.csv", "size": 1024}),
            shown("Unpacked, with extract=true", {
                "path": "data", "size": 1036, "count": 2, "truncated": False,
                "files": [{"path": "data/input.csv", "size": 1024}, {"path": "data/sub/readme.txt", "size": 12}],
            }),
        ],
        parameters=[OpenApiParameter("extract", bool, description=(
            "`true`: the file is a tar (plain, .gz, .bz2, .xz) or zip, unpacked in the sandbox into the folder `path` (left out: the "
            "workspace). All of it or nothing. Files and folders only: 400 for links, devices, paths that lead out, damage. 413 beyond "
            "10,000 files and folders, 1 GiB, or 200 times the archive's size. 409 where a file stands in a folder's way or the reverse."
        ))],
        description=(
            "Multipart with the parts `file` and `path` in either order, up to 100 MiB. The old or the new content is there, never half. "
            "With `extract=true` the file is unpacked."
        ),
    )  # fmt: skip
    def post(self, request: Request, session_id: str, name: str = "upload") -> Response:
        """Code can read it once this has answered."""
        extract = pagination.boolean(pagination.known_only(request, "extract"), "extract", False)
        uploads.check(request)
        session = started(request, session_id, live=True)
        with Incoming(session, extract) as incoming:
            raw_path = uploads.receive(request, incoming, need_path=not extract)
            path = workspace.check_path(raw_path) if raw_path is not None else ""
            if extract:
                return Response(UploadOut(incoming.archive(path)).data)
            return Response({"path": path, "size": incoming.file(path)})


@extend_schema_view(get=extend_schema(exclude=True), delete=extend_schema(exclude=True))
class UploadUrlView(FileView):
    """`POST .../files/upload-url`. A file of that very name is reached by the same path with the other methods."""

    @operation(
        "create_upload_url", "Upload past the API", tag="files", request=UploadUrlIn, responses={200: UploadUrl},
        errors=["SessionNotFound", "RuntimeUnavailable", "Conflict"], parameters=[IDEMPOTENCY_KEY],
        description=(
            "For what is too large or too far to stream through the API: `PUT` the bytes to `url` (no token is needed, `Content-Length` "
            "is), then `POST .../files/upload-complete` with `upload_id` brings them into the workspace. Up to the session's disk. "
            "A session has up to 16 uploads that are not completed; one more is a 409."
        ),
    )  # fmt: skip
    def post(self, request: Request, session_id: str, name: str = "upload-url") -> Response:
        """The URL takes one file, for 15 minutes; `upload_id` holds for an hour."""
        path = workspace.check_path(UploadUrlIn.read(request.data)["path"])
        session = started(request, session_id, live=True)
        origin = request.build_absolute_uri("/").rstrip("/")
        return idempotency.once(request, lambda: Response(UploadUrl(links.offer_upload(session, path, origin)).data))


@extend_schema_view(get=extend_schema(exclude=True), delete=extend_schema(exclude=True))
class UploadCompleteView(FileView):
    """`POST .../files/upload-complete`. A file of that very name is reached by the same path with the other methods."""

    @operation(
        "complete_upload", "Bring an upload into the workspace", tag="files", request=UploadDone, responses={200: UploadOut},
        errors=["SessionNotFound", "FileNotFound", "RuntimeUnavailable", "Conflict", "DiskFull"],
        description="Of what was uploaded to a URL of `upload-url`. The old or the new content is there, never half. Safe to repeat.",
    )  # fmt: skip
    def post(self, request: Request, session_id: str, name: str = "upload-complete") -> Response:
        """Code can read it once this has answered."""
        upload_id = UploadDone.read(request.data)["upload_id"]
        path, size = links.complete(started(request, session_id, live=True), upload_id)
        return Response({"path": path, "size": size})
