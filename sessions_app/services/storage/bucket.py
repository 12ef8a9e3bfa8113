"""A bucket of S3 that keeps files."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from sandbox_platform.storage_url import PART
from sessions_app.services.storage.names import UPLOADS, folder_of, uploads_of
from sessions_app.services.storage.terms import Body, NameTaken, NotStored, StorageUnavailable, Stored, Write

# What S3 servers on top of file systems say to a name that they can't keep, as where a folder is in the way. To anything but a write
# some of it means that the server fails.
TAKEN = {"InternalError", "KeyTooLongError", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory", "InvalidArgument"}

_connecting = threading.Lock()


class Bucket:
    """A bucket of S3 or of what speaks like it. `storage` is django-storages' S3Storage."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._prefix = f"{storage.location}/" if storage.location else ""

    @cached_property
    def _client(self) -> Any:
        """One a process, which its threads share; the storage's own would be one a thread."""
        return self._connect(self._storage.endpoint_url)

    @cached_property
    def _public_client(self) -> Any:
        """Signs for the origin by which clients reach the server: a signature holds for one host."""
        origin = self._storage.custom_domain
        return self._connect(origin) if origin else self._client

    def _connect(self, origin: str | None) -> Any:
        storage = self._storage
        with _connecting:  # sessions of boto3 are not for several threads
            session = storage._create_session()
            return session.client("s3", storage.region_name, endpoint_url=origin, config=storage.client_config)

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._storage.bucket_name, "Key": self._prefix + name}

    def url(self, name: str) -> str:
        """As S3's own tools write it."""
        return f"s3://{self._storage.bucket_name}/{self._prefix}{name}"

    def write(self, name: str, pieces: Iterable[bytes]) -> int:
        """Keep a file; its size. Raises NameTaken, StorageUnavailable, and what `pieces` raises: then nothing is kept."""
        from boto3.s3.transfer import TransferConfig

        body = _Reader(pieces)
        at = self._at(name)
        # Threads would hold a part each.
        config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, use_threads=False)
        with _s3(TAKEN):
            self._client.upload_fileobj(body, at["Bucket"], at["Key"], Config=config)
        return body.size

    @contextmanager
    def batch(self) -> Iterator[Write]:
        """Each is safe, and seen, as soon as it is written: there is nothing to be gained here by waiting."""
        yield self.write

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Stored:
        """A file or a part of it. Raises NotStored, StorageUnavailable."""
        from botocore.exceptions import BotoCoreError, ClientError

        if length == 0:
            return self._head(name)
        wanted = (
            {}
            if not offset and length is None
            else {"Range": f"bytes={offset}-{'' if length is None else offset + length - 1}"}
        )
        try:
            answer = self._client.get_object(**self._at(name), **wanted)
        except ClientError as error:
            if _code(error) in ("InvalidRange", "416"):
                return self._head(name)
            with _s3():
                raise
        except BotoCoreError as error:
            raise StorageUnavailable(str(error)[:500]) from error
        whole = answer.get("ContentRange", "").rpartition("/")[2]
        size = int(whole) if whole else answer["ContentLength"]
        return Stored(size, answer["ContentLength"], answer["ETag"], Body(answer["Body"], answer["ContentLength"]))

    def _head(self, name: str) -> Stored:
        with _s3():
            head = self._client.head_object(**self._at(name))
        return Stored(head["ContentLength"], 0, head["ETag"], iter(()))

    def delete(self, name: str) -> None:
        """Forget a file, if there is one."""
        with _s3():
            self._client.delete_object(**self._at(name))

    def erase(self, session_id: str) -> None:
        """Forget all files of a session, and what has come past it."""
        self._erase(folder_of(session_id))
        self._erase(uploads_of(session_id))

    def _erase(self, prefix: str, before: float = math.inf) -> None:
        at = self._at(prefix)
        with _s3():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=at["Bucket"], Prefix=at["Key"])
            for page in pages:
                old = [item for item in page.get("Contents", []) if item["LastModified"].timestamp() < before]
                keys = [{"Key": item["Key"]} for item in old]
                if not keys:
                    continue
                answer = self._client.delete_objects(Bucket=at["Bucket"], Delete={"Objects": keys, "Quiet": True})
                if answer.get("Errors"):
                    raise StorageUnavailable(str(answer["Errors"][0])[:500])

    def answers(self) -> None:
        """Raises StorageUnavailable. A listing of one key: it asks for no more rights than the work itself."""
        at = self._at("")
        with _s3():
            self._client.list_objects_v2(Bucket=at["Bucket"], Prefix=at["Key"], MaxKeys=1)

    def sweep(self, before: float) -> None:
        """Abort the uploads that processes which died have left open, begun before `before`: they cost room, unseen."""
        at = self._at("sessions/")
        with _s3(), suppress(self._client.exceptions.NoSuchUpload):  # some servers say so where there are none
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=at["Bucket"], Prefix=at["Key"])
            for page in pages:
                for item in page.get("Uploads", []):
                    if item["Initiated"].timestamp() < before:
                        self._client.abort_multipart_upload(
                            Bucket=at["Bucket"], Key=item["Key"], UploadId=item["UploadId"]
                        )

    def sweep_uploads(self, before: float) -> None:
        """Remove what came past the sandboxes before `before` (seconds since 1970) and is there still. Raises StorageUnavailable."""
        self._erase(UPLOADS, before)

    def presigned_get(self, name: str, seconds: int, disposition: str, mime_type: str) -> str:
        """A URL that gives the file to whoever has it, for so long, under these headers."""
        said = {"ResponseContentDisposition": disposition, "ResponseContentType": mime_type}
        with _s3():
            return self._public_client.generate_presigned_url("get_object", {**self._at(name), **said}, seconds)

    def presigned_put(self, name: str, seconds: int) -> str:
        """A URL that takes one file from whoever has it, for so long."""
        with _s3():
            return self._public_client.generate_presigned_url("put_object", self._at(name), seconds)


@contextmanager
def _s3(taken: Collection[str] = ()) -> Iterator[None]:
    """The errors of boto3 in our words. `taken` are the codes that mean a name, and not the server: only writing can tell."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in ("NoSuchKey", "404"):
            raise NotStored(code) from None
        if code in taken:
            raise NameTaken(code) from error
        raise StorageUnavailable(code) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageUnavailable(str(error)[:500]) from error


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


class _Reader:
    """A readable file over pieces, whose reads are short only at the end: S3 refuses small parts in the middle."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), b""
        self.size = 0

    def read(self, amount: int = -1) -> bytes:
        """Up to `amount` bytes."""
        got = [self._rest]
        count = len(self._rest)
        while count < amount or amount < 0:
            piece = next(self._pieces, None)
            if piece is None:
                break
            got.append(piece)
            count += len(piece)
        data = b"".join(got)
        data, self._rest = (data, b"") if amount < 0 else (data[:amount], data[amount:])
        self.size += len(data)
        return data
