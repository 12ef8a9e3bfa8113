"""URLs that carry one file for whoever has them, for a short time: S3's own where files are there, else ours, signed."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass

from django.core import signing
from django.utils import timezone

from runtime.drivers.errors import ExecutorError
from sandbox_platform.errors import ApiError, invalid
from sessions_app.models import Session, StoredFile
from sessions_app.services import saved, storage, workspace
from templates_app import resources

# Bytes above which a download is sent to S3 unasked.
BIG = 10 * 1024 * 1024
# Seconds.
DOWNLOAD_LIFE, UPLOAD_LIFE, COMPLETION_LIFE = 300, 900, 24 * 3600
DOWNLOAD, UPLOAD, COMPLETION = "sandbox.download", "sandbox.upload", "sandbox.completion"


@dataclass(frozen=True)
class Upload:
    """A file that is to come, or has come, past the sandbox."""

    session_id: str
    path: str
    name: str


def download(session: Session, path: str, asked: bool | None, disposition: str) -> str | None:
    """Where to send a client who wants the file, None where it is to be streamed. `asked` for a link, or for none.

    Only what is the same in the storage and in the sandbox is linked to.
    """
    store = storage.current()
    s3 = store if isinstance(store, storage.Bucket) else None
    if asked is False or (asked is None and s3 is None):
        return None
    row = saved.find(session, path)
    if row is None or (asked is None and row.size <= BIG) or not _same(session, row):
        return None
    if s3 is not None:
        return s3.presigned_get(row.name, DOWNLOAD_LIFE, disposition, workspace.mime_type(path))
    return "/links/" + signing.dumps([session.pk, path], salt=DOWNLOAD, compress=True)


def _same(session: Session, row: StoredFile) -> bool:
    if workspace.in_storage(session):
        return True
    try:
        info, body = workspace.client_of(session).open_file(row.path, 0, 0)
    except (ExecutorError, ApiError):
        return False
    body.close()
    return info.etag == row.etag


def read_download(token: str) -> tuple[Session, str]:
    """Whom and what a link of ours is for. Raises signing.BadSignature."""
    session_id, path = signing.loads(token, salt=DOWNLOAD, max_age=DOWNLOAD_LIFE)
    session = Session.objects.select_related("container").filter(pk=session_id).first()
    if session is None or saved.find(session, path) is None:
        raise signing.BadSignature
    return session, path


def offer_upload(session: Session, path: str, origin: str) -> dict[str, object]:
    """An upload's URL, what to send with it, and what to give to `complete` once it is there. `origin` is ours, as clients see it."""
    name = f"{storage.folder_of(session.pk)}%uploads/{secrets.token_hex(16)}"
    store = storage.current()
    parts = [session.pk, path, name]
    url = (
        store.presigned_put(name, UPLOAD_LIFE)
        if isinstance(store, storage.Bucket)
        else f"{origin}/links/{signing.dumps(parts, salt=UPLOAD, compress=True)}"
    )
    return {
        "upload_id": signing.dumps(parts, salt=COMPLETION, compress=True),
        "url": url,
        "method": "PUT",
        "headers": {},
        "expires_at": timezone.now() + dt.timedelta(seconds=UPLOAD_LIFE),
    }


def read_upload(token: str) -> Upload:
    """What a link of ours takes. Raises signing.BadSignature."""
    return Upload(*signing.loads(token, salt=UPLOAD, max_age=UPLOAD_LIFE))


def limit(session: Session) -> int:
    """Bytes that such an upload may have: more than its disk no session can take."""
    return resources.size(session.disk)


def complete(session: Session, upload_id: str) -> tuple[str, int]:
    """Bring what has been uploaded into the sandbox; its path and size. Safe to repeat until it has succeeded."""
    try:
        upload = Upload(*signing.loads(upload_id, salt=COMPLETION, max_age=COMPLETION_LIFE))
    except (signing.BadSignature, TypeError):
        raise invalid("upload_id: is none of ours, or too old") from None
    if upload.session_id != session.pk:
        raise invalid("upload_id: is of another session")
    store = storage.current()
    try:
        stored = store.read(upload.name)
        if stored.size > limit(session):
            store.delete(upload.name)
            raise ApiError("PayloadTooLarge", f"The file is larger than the session's disk of {session.disk}")
        size = workspace.upload(session, upload.path, stored.body)
        store.delete(upload.name)
    except storage.NotStored:
        raise ApiError("FileNotFound", "Nothing has been uploaded to the URL, or it was completed already") from None
    except storage.StorageUnavailable as error:
        raise workspace.unavailable(error) from error
    return upload.path, size
