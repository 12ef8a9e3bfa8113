"""Paying storage debts: copying a workspace to the storage, or erasing there. Safe to repeat, whoever dies when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from runtime.drivers.errors import DriverError, ExecutorError, ExecutorRefused, ExecutorUnavailable
from runtime.drivers.executor_client import ExecutorClient
from runtime.drivers.executor_client.file_values import FileEntry
from runtime.models import Container, ContainerStatus
from runtime.services import containers
from sandbox_platform import processes
from sandbox_platform.errors import ApiError
from sandbox_platform.queue import Queue, enqueue
from sessions_app.models import Owed, Session, StorageDebt, StoredFile
from sessions_app.services import saved, storage
from sessions_app.services.debts import free
from sessions_app.services.storage import NameTaken, StorageUnavailable, Write
from sessions_app.services.workspace import check_path, client_of

log = structlog.get_logger(__name__)
# Seconds.
MOST_BETWEEN_TRIES = 60
# Files that are made safe together, and the threads that read them: downloads of the session want to be served meanwhile.
BATCH, THREADS = 50, 2
UP = (ContainerStatus.RUNNING, ContainerStatus.WARM)


class Unsettled(Exception):
    """A file changed while it was read."""


def pay(session_id: str) -> None:
    """Pay one debt, unless it is not due, somebody is at it, or there is none."""
    mine = processes.own_id()
    due = StorageDebt.objects.filter(free(), pk=session_id, lost_at=None, next_try_at__lte=Now())
    if not due.update(taker=mine):
        return
    try:
        while debt := StorageDebt.objects.filter(pk=session_id, taker=mine).first():
            try:
                _work(debt)
            except (StorageUnavailable, NameTaken, ExecutorError) as error:
                _postpone(debt, error)
                break
            if _strike_out(debt):
                break
    finally:
        StorageDebt.objects.filter(pk=session_id, taker=mine).update(taker=None)


def _work(debt: StorageDebt) -> None:
    session = Session.objects.select_related("container__node").get(pk=debt.session_id)
    if debt.what == Owed.ERASE or session.purge:
        saved.erase(session.pk)
        return
    container = session.container
    if container is None or not container.socket or session.released_at:
        return
    try:
        sync(session.pk, client_of(session), settled=session.ended)
    except ExecutorError as error:
        # One that answers is there, however badly it answers: its files wait for as long as any others.
        if not isinstance(error, ExecutorUnavailable) or not _gone(container):
            raise
        # A sandbox that is gone has nothing more to give; what was copied after its runs is there.
        log.warning("workspace_gone", session=session.pk, error=str(error))


def _gone(container: Container) -> bool:
    """Whether the sandbox is dead by its engine's word: being slow, or hanging up, is no sign of it."""
    if container.status in UP:
        try:
            containers.look(container)
        except DriverError as error:
            log.warning("look_failed", container=container.name, error=str(error))
    return Container.objects.filter(pk=container.pk).exclude(status__in=UP).exists()


def _strike_out(debt: StorageDebt) -> bool:
    """The debt is paid, unless it has grown meanwhile."""
    with transaction.atomic():
        same = StorageDebt.objects.filter(pk=debt.pk, generation=debt.generation, what=debt.what)
        if not same.delete()[0]:
            return False
        if debt.what == Owed.SAVE:
            Session.objects.filter(pk=debt.pk).update(files_saved_at=Now())
            enqueue(Queue.LIFECYCLE, "sessions_app.tasks.release", debt.pk)
    return True


def _postpone(debt: StorageDebt, error: Exception) -> None:
    """Try again later, each time later still; give up where the sandbox has been kept for long enough."""
    seconds = min(2**debt.attempts, MOST_BETWEEN_TRIES)
    log.warning("storage_debt", session=debt.pk, what=debt.what, attempts=debt.attempts + 1, error=repr(error)[:500])
    row = StorageDebt.objects.filter(pk=debt.pk)
    row.update(
        attempts=F("attempts") + 1, error=f"{type(error).__name__}: {error}"[:2000],
        next_try_at=timezone.now() + dt.timedelta(seconds=seconds),
    )  # fmt: skip
    patience = dt.timedelta(seconds=settings.WORKSPACE_SAVE_PATIENCE)
    if debt.what == Owed.SAVE and timezone.now() - debt.since > patience:
        with transaction.atomic():
            row.update(lost_at=Now())
            who = "its sandbox did not give" if isinstance(error, ExecutorError) else "the storage did not take"
            detail = f"; not all of its files could be saved, {who} them in time"
            session = Session.objects.get(pk=debt.pk)
            Session.objects.filter(pk=debt.pk).update(status_detail=session.status_detail[:1900] + detail)
            enqueue(Queue.LIFECYCLE, "sessions_app.tasks.release", debt.pk)
        log.error("files_lost", session=debt.pk, error=str(error)[:500])


def sync(session_id: str, client: ExecutorClient, settled: bool) -> None:
    """Make the stored files those of the sandbox. `settled`: nothing runs in it any more, so that nothing changes.

    Raises ExecutorError, also where all but a few files are safe, StorageUnavailable and NameTaken.
    """
    have = {row.path: row for row in StoredFile.objects.filter(session_id=session_id)}
    gone = set(have)
    partly, refused = False, []
    with ThreadPoolExecutor(THREADS, "copy") as pool:
        for page in client.every_file():
            gone.difference_update(entry.path for entry in page.files)
            partly = partly or (page.truncated and page.next is None)
            missing = [entry for entry in page.files if _wanted(entry, have.get(entry.path))]
            for start in range(0, len(missing), BATCH):
                refused += _copy_batch(session_id, client, missing[start : start + BATCH], settled, pool)
    if partly:
        log.warning("workspace_truncated", session=session_id)
    else:
        for path in gone:
            saved.forget(have[path])
    if refused:  # not before the rest is safe
        raise refused[0]


def _copy_batch(
    session_id: str, client: ExecutorClient, entries: list[FileEntry], settled: bool, pool: ThreadPoolExecutor
) -> list[ExecutorRefused]:
    with storage.current().batch() as keep:
        found = list(pool.map(lambda entry: _copy(session_id, client, entry, settled, keep), entries))
    saved.remember([row for row in found if isinstance(row, StoredFile)])
    return [error for error in found if isinstance(error, ExecutorRefused)]


def _wanted(entry: FileEntry, row: StoredFile | None) -> bool:
    try:
        check_path(entry.path)
    except ApiError:
        return False  # what no download can name is not worth keeping
    return row is None or not entry.etag or row.etag != entry.etag


def _copy(
    session_id: str, client: ExecutorClient, entry: FileEntry, settled: bool, keep: Write
) -> StoredFile | ExecutorRefused | None:
    """The row of a file whose bytes are safe; None where it went away or changed: who changed it owes a copy again.

    A refusal where it is there and can't be read now: too much is asked of the sandbox, or its disk fails.
    """
    first = None

    def pieces() -> Iterator[bytes]:
        nonlocal first
        first, body = client.open_file(entry.path)
        with body:
            yield from body
        if settled:
            return
        # Before the storage is told that this is all: a mixture of old and new must never be seen.
        again, rest = client.open_file(entry.path, 0, 0)
        rest.close()
        if again.etag != first.etag:
            raise Unsettled

    try:
        name, size = saved.write(session_id, entry.path, pieces, keep)
    except Unsettled:
        return None
    except ExecutorRefused as error:
        return None if error.code == "not_found" else error
    assert first is not None
    return StoredFile(session_id=session_id, path=entry.path, name=name, size=size, mtime=first.mtime, etag=first.etag)
