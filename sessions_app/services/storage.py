"""The bytes of stored files, by name: the one module that knows Django's `STORAGES["workspaces"]`.

A folder or a bucket, both with the same verbs. Neither holds more than a part of a file in memory, and in neither is a file
ever seen half: a folder renames, S3 shows an object once all of it is there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from django.core.files.storage import FileSystemStorage, Storage, storages

from sandbox_platform.storage_url import PART

PIECE = 256 * 1024
# S3 allows 1,024 bytes of a key, file systems 255 of a segment; the rest is left for the storage's own prefix.
MAX_NAME, MAX_SEGMENT = 900, 255
# Names that S3 servers on top of file systems refuse, as where a folder is in the way.
TAKEN = {"InternalError", "KeyTooLongError", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory", "InvalidArgument"}
UNSAFE = re.compile(r"[%\\\x00-\x1f\x7f]")

_connecting = threading.Lock()


class StorageUnavailable(Exception):
    """It does not answer, or not as it should. Another try may fare better."""


class NotStored(Exception):
    """There is no such file."""


class NameTaken(Exception):
    """The storage can't keep a file of that name: too long for it, or a folder of that name is in the way."""


@dataclass(frozen=True)
class Stored:
    """A stored file that is being read: `length` bytes follow of its `size`."""

    size: int
    length: int
    etag: str
    body: Iterator[bytes]


def folder_of(session_id: str) -> str:
    """What all names of a session begin with."""
    return f"sessions/{session_id}/"


def name_of(session_id: str, path: str) -> str:
    """The name of a workspace file. To a storage a backslash is a separator, so that `..\\x` would lead upwards: it is encoded."""
    safe = UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", path)
    fits = len(safe.encode()) <= MAX_NAME and all(len(part.encode()) <= MAX_SEGMENT for part in safe.split("/"))
    return folder_of(session_id) + safe if fits else spare_name(session_id, path)


def spare_name(session_id: str, path: str) -> str:
    """For a path that can't be a name, or whose name is taken. `%long` can't be the beginning of an encoded path."""
    return f"{folder_of(session_id)}%long/{hashlib.sha256(path.encode()).hexdigest()}"


Write = Callable[[str, Iterable[bytes]], int]


class _Begun(NamedTuple):
    """A file whose bytes are written and not yet safe."""

    descriptor: int
    temporary: Path
    target: Path


class Folder:
    """A local folder."""

    def __init__(self, storage: FileSystemStorage) -> None:
        self._root = Path(storage.location)

    def url(self, name: str) -> str:
        """Never a path of the host."""
        return f"workspace://{name}"

    def write(self, name: str, pieces: Iterable[bytes]) -> int:
        """Keep a file; its size. Raises NameTaken, StorageUnavailable, and what `pieces` raises: then nothing is kept."""
        with self.batch() as write:
            return write(name, pieces)

    @contextmanager
    def batch(self) -> Iterator[Write]:
        """Gives a `write` for several files, by several threads: they are safe, and seen, at the end of the block, or none is."""
        begun: list[_Begun] = []
        try:
            yield partial(self._begin, begun)
            with _files():
                # The disk has been busy with all of them since they were written: the first waits, the others hardly.
                for one in begun:
                    os.fsync(one.descriptor)
                for one in begun:
                    one.target.parent.mkdir(parents=True, exist_ok=True)
                    os.rename(one.temporary, one.target)
                for folder in {folder for one in begun for folder in self._folders(one.target)}:
                    _sync_folder(folder)
        finally:
            for one in begun:
                os.close(one.descriptor)
                one.temporary.unlink(missing_ok=True)

    def _begin(self, begun: list[_Begun], name: str, pieces: Iterable[bytes]) -> int:
        target = self._root / name
        # Beside the files, not among them: what a crash leaves is found by its age.
        temporary = self._root / "tmp" / secrets.token_hex(16)
        with _files():
            temporary.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() or not next(folder for folder in target.parents if folder.exists()).is_dir():
                raise NameTaken(name)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = _fill(descriptor, pieces)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        begun.append(_Begun(descriptor, temporary, target))
        return size

    def _folders(self, target: Path) -> list[Path]:
        depth = len(target.relative_to(self._root).parts)
        return list(target.parents)[:depth]

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Stored:
        """A file or a part of it. Raises NotStored, StorageUnavailable."""
        try:
            file = (self._root / name).open("rb", buffering=0)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotStored(name) from None
        except OSError as error:
            raise StorageUnavailable(str(error)) from error
        info = os.fstat(file.fileno())
        file.seek(offset)
        part = max(0, min(info.st_size - offset, info.st_size if length is None else length))
        return Stored(info.st_size, part, f'"{info.st_mtime_ns:x}-{info.st_size:x}"', _Body(file, part))

    def delete(self, name: str) -> None:
        """Forget a file, if there is one."""
        path = self._root / name
        with _files():
            path.unlink(missing_ok=True)
        _prune(path.parent, self._root)

    def erase(self, session_id: str) -> None:
        """Forget all files of a session."""
        top = self._root / folder_of(session_id)
        for folder, _, files in os.walk(top, topdown=False):
            with _files():
                for file in files:
                    os.unlink(os.path.join(folder, file))
                os.rmdir(folder)

    def answers(self) -> None:
        """Raises StorageUnavailable."""
        with _files():
            self._root.mkdir(parents=True, exist_ok=True)
            os.stat(self._root)

    def sweep(self, before: float) -> None:
        """Remove what was left half by processes that died, older than `before` (seconds since 1970)."""
        for path in (self._root / "tmp").glob("*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()


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
        with _s3():
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
        return Stored(size, answer["ContentLength"], answer["ETag"], _Body(answer["Body"], answer["ContentLength"]))

    def _head(self, name: str) -> Stored:
        with _s3():
            head = self._client.head_object(**self._at(name))
        return Stored(head["ContentLength"], 0, head["ETag"], iter(()))

    def delete(self, name: str) -> None:
        """Forget a file, if there is one."""
        with _s3():
            self._client.delete_object(**self._at(name))

    def erase(self, session_id: str) -> None:
        """Forget all files of a session."""
        at = self._at(folder_of(session_id))
        with _s3():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=at["Bucket"], Prefix=at["Key"])
            for page in pages:
                keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
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

    def presigned_get(self, name: str, seconds: int, disposition: str, mime_type: str) -> str:
        """A URL that gives the file to whoever has it, for so long, under these headers."""
        said = {"ResponseContentDisposition": disposition, "ResponseContentType": mime_type}
        with _s3():
            return self._public_client.generate_presigned_url("get_object", {**self._at(name), **said}, seconds)

    def presigned_put(self, name: str, seconds: int) -> str:
        """A URL that takes one file from whoever has it, for so long."""
        with _s3():
            return self._public_client.generate_presigned_url("put_object", self._at(name), seconds)


def current() -> Folder | Bucket:
    """The storage in use."""
    return _of(storages["workspaces"])


@lru_cache(maxsize=1)
def _of(storage: Storage) -> Folder | Bucket:
    if isinstance(storage, FileSystemStorage):
        return Folder(storage)
    return Bucket(storage)


@contextmanager
def _files() -> Iterator[None]:
    """The errors of file systems in this module's words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY):
            raise NameTaken(str(error)) from error
        raise StorageUnavailable(str(error)) from error


@contextmanager
def _s3() -> Iterator[None]:
    """The errors of boto3 in this module's words."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in ("NoSuchKey", "404"):
            raise NotStored(code) from None
        if code in TAKEN:
            raise NameTaken(code) from error
        raise StorageUnavailable(code) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageUnavailable(str(error)[:500]) from error


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _fill(descriptor: int, pieces: Iterable[bytes]) -> int:
    size = 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            with _files():
                view = view[os.write(descriptor, view) :]
        size += len(piece)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write them to the disk, and does not wait
    return size


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


class _Body:
    """All of the bytes that were announced, or an error: a connection that is cut must not pass for the end of the file."""

    def __init__(self, stream: Any, length: int) -> None:
        self._stream, self._left = stream, length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            self.close()
            raise StopIteration
        try:
            data = cast(bytes, self._stream.read(min(PIECE, self._left)))
        except Exception as error:  # of urllib3 and botocore alike
            self.close()
            raise StorageUnavailable(f"reading failed: {error}") from error
        if not data:
            self.close()
            raise StorageUnavailable("the connection was cut, or the file has shrunk")
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Also before the end."""
        self._stream.close()


def _prune(folder: Path, root: Path) -> None:
    """Remove folders that are empty now: a file may want the name."""
    while folder != root and folder.parent != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
