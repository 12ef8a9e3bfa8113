"""URLs that carry one file for whoever has them, for a short time: S3's own where files are there, else ours, signed."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.core import signing
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from runtime.drivers.errors import ExecutorError
from sandbox_platform.errors import ApiError, invalid
from sessions_app.models import PendingUpload, Session, StoredFile
from sessions_app.services import saved, storage, workspace
from templates_app import resources

# Bytes above which a download is sent to S3 unasked.
BIG = 10 * 1024 * 1024
# Seconds.
DOWNLOAD_LIFE, UPLOAD_LIFE, COMPLETION_LIFE = 300, 900, 3600
# Of one session: none of it lies on a disk that its limits hold for.
MOST_UPLOADS = 16
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
    """An upload's URL, what to send with it, and what to give to `complete` once it is there. `origin` is ours, as clients see it.

    409 where too many have been given out. Call inside a transaction.
    """
    name = storage.uploads_of(session.pk) + secrets.token_hex(16)
    if len(_pending(session.pk)) >= MOST_UPLOADS:
        raise ApiError(
            "Conflict", f"The session has {MOST_UPLOADS} uploads that are not completed",
            solution="Complete one of them, or wait: an upload is given up after an hour. Then ask with a new Idempotency-Key",
            headers={"Retry-After": "60"},
        )  # fmt: skip
    until = timezone.now() + dt.timedelta(seconds=COMPLETION_LIFE)
    PendingUpload.objects.create(session=session, name=name, until=until)
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


def _pending(session_id: str) -> list[PendingUpload]:
    """The session's uploads that count. Until the transaction's end nobody else changes them."""
    Session.objects.select_for_update(no_key=True).only("pk").get(pk=session_id)
    return list(PendingUpload.objects.filter(session=session_id, until__gt=Now()))


@contextmanager
def room(session: Session, upload: Upload, length: int) -> Iterator[None]:
    """For so many bytes that come to a link of ours. 413 where all that comes and has come would be larger than the session's disk.

    404 once the upload has been completed. What comes to one link again, or at the same time, counts each time: it is there each time,
    until one takes the place of another.
    """
    row = PendingUpload.objects.filter(name=upload.name, until__gt=Now())
    with transaction.atomic():
        taken = sum(other.size for other in _pending(session.pk))
        if taken + length > limit(session):
            raise ApiError(
                "PayloadTooLarge", f"The session's uploads would be larger together than its disk of {session.disk}",
                solution="Complete what has been uploaded, or upload less",
            )  # fmt: skip
        if not row.update(size=F("size") + length):
            raise ApiError("NotFound", "There is no such link, or its upload has been completed")
    try:
        yield
    except BaseException:
        PendingUpload.objects.filter(name=upload.name).update(size=F("size") - length)  # nothing of it is kept
        raise


def _done(upload: Upload) -> None:
    """It counts no more, unless its URL still takes a file: S3's does until its time is over, ours asks for the row."""
    row = PendingUpload.objects.filter(name=upload.name).first()
    if row is not None and isinstance(storage.current(), storage.Bucket):
        row.until -= dt.timedelta(seconds=COMPLETION_LIFE - UPLOAD_LIFE)
        row.save(update_fields=["until"])
    elif row is not None:
        row.delete()


def sweep() -> None:
    """Forget uploads that nobody can complete any more, and remove what came by their URLs. Raises StorageUnavailable."""
    PendingUpload.objects.filter(until__lt=Now()).delete()
    storage.current().sweep_uploads((timezone.now() - dt.timedelta(seconds=COMPLETION_LIFE)).timestamp())


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
        _done(upload)
    except storage.NotStored:
        raise ApiError("FileNotFound", "Nothing has been uploaded to the URL, or it was completed already") from None
    except storage.StorageUnavailable as error:
        raise workspace.unavailable(error) from error
    return upload.path, size
