"""What becomes of files in S3 and in a folder: copied after runs, saved at the end, owed while the storage does not take them."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import pytest
from django.db import transaction

from runtime.drivers.errors import ExecutorProtocolError, ExecutorRefused, ExecutorUnavailable
from runtime.drivers.executor_client import ExecutorClient
from runtime.models import ContainerStatus
from sandbox_platform import metrics, storage_url
from sandbox_platform.models import Process
from sessions_app.models import Owed, Session, StorageDebt, StoredFile
from sessions_app.services import copies, debts, lifecycle, storage
from tests.api.client import Api, error_of, eventually
from tests.factories import SessionFactory
from tests.s3 import BUCKET, Server, Wire

NAMES = [
    "plain.txt", "data/é ü.csv", "данные/файл.txt", "数据/文件.json", "ملف", "\U0001f600", "a b%25c", "q\"uo'te",
    "new\nline", "back\\slash",
    "..\\up", "%2e%2e", "x" * 255, "\\" * 100, "+&?#=;:@,", " lead", "d/" * 30 + "deep",
    "%long/x",
]  # fmt: skip


def stored(session_id: str, path: str) -> StoredFile | None:
    return StoredFile.objects.filter(session=session_id, path=path).first()


def saved_and_released(session_id: str) -> Session:
    eventually(lambda: Session.objects.get(pk=session_id).released_at)
    return Session.objects.get(pk=session_id)


def bytes_of(name: str) -> bytes:
    return b"".join(storage.current().read(name).body)


# --- The module ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 + 1, 10 * 2**20, 17 * 2**20 + 3])
def test_bytes_are_the_same(either: Any, size: int) -> None:
    data = hashlib.shake_128(b"seed").digest(min(size, 2**20)) * (size // 2**20 + 1)
    data = data[:size]
    pieces = (data[start : start + 70_001] for start in range(0, size, 70_001))
    assert storage.current().write("sessions/s/file", pieces) == size
    whole = storage.current().read("sessions/s/file")
    assert (whole.size, whole.length, b"".join(whole.body) == data) == (size, size, True)
    for offset, length in ((0, 0), (0, 1), (size // 2, 1000), (max(0, size - 1), 10), (size, 5), (size + 10, None)):
        part = storage.current().read("sessions/s/file", offset, length)
        expected = data[offset:] if length is None else data[offset : offset + length]
        assert (part.size, part.length, b"".join(part.body)) == (size, len(expected), expected), (offset, length)
    storage.current().erase("s")
    with pytest.raises(storage.NotStored):
        storage.current().read("sessions/s/file")


def test_names_of_any_script_are_kept_apart(either: Any) -> None:
    names = {path: storage.name_of("names", path) for path in NAMES}
    assert len(set(names.values())) == len(NAMES)
    for path, name in names.items():
        storage.current().write(name, [path.encode()])
    for path, name in names.items():
        assert bytes_of(name) == path.encode(), path
    for name in names.values():
        storage.current().delete(name)
    for name in names.values():
        with pytest.raises(storage.NotStored):
            storage.current().read(name)


def test_what_breaks_off_is_never_seen(either: Any, settings: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 2**20
        raise KeyboardInterrupt

    storage.current().write("sessions/b/file", [b"old"])
    with pytest.raises(KeyboardInterrupt):
        storage.current().write("sessions/b/file", broken())
    assert bytes_of("sessions/b/file") == b"old"
    if either is None:
        assert not list(Path(settings.STORAGES["workspaces"]["OPTIONS"]["location"], "tmp").iterdir())
    storage.current().erase("b")


WRITER = """
import django, sys
django.setup()
from sessions_app.services import storage
def pieces():
    yield b"n" * (9 * 2**20)
    print("halfway", flush=True)
    sys.stdin.read()
storage.current().write("sessions/k/file", pieces())
"""


def test_kill_9_in_the_middle_of_a_copy_leaves_the_old_file(either: Any, settings: Any, tmp_path: Path) -> None:
    """A process of its own writes more than one part and is killed before the end."""
    url = either.url if either else ""
    settings.STORAGES = {**settings.STORAGES, "workspaces": storage_url.workspaces(url, tmp_path / "workspaces")}
    storage.current().write("sessions/k/file", [b"old"])
    environment = {
        **os.environ, "DJANGO_SETTINGS_MODULE": "sandbox_platform.settings",
        "SANDBOX_STATE_DIR": str(tmp_path), "WORKSPACE_STORAGE_URL": url,
    }  # fmt: skip
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert writer.stdout and writer.stdout.readline() == b"halfway\n"
    writer.kill()
    writer.communicate()
    assert bytes_of("sessions/k/file") == b"old"
    storage.current().write("sessions/k/file", [b"new"])
    assert bytes_of("sessions/k/file") == b"new"
    storage.current().sweep(time.time() + 60)
    assert not list((tmp_path / "workspaces" / "tmp").glob("*"))
    storage.current().erase("k")


def test_what_a_process_that_died_left_half_is_swept(either: Any, settings: Any) -> None:
    storage.current().write("sessions/h/file", [b"x"])
    if either:
        client, bucket = storage.current()._client, {"Bucket": BUCKET, "Key": "sessions/h/half"}
        upload = client.create_multipart_upload(**bucket)["UploadId"]
        client.upload_part(**bucket, UploadId=upload, PartNumber=1, Body=b"x" * 2**20)
        left = lambda: client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])  # noqa: E731
    else:
        half = Path(settings.STORAGES["workspaces"]["OPTIONS"]["location"], "tmp", "half")
        half.write_bytes(b"x")
        left = lambda: list(half.parent.iterdir())  # noqa: E731
    storage.current().sweep(0)
    assert left()
    storage.current().sweep(time.time() + 60)
    assert not left()
    assert bytes_of("sessions/h/file") == b"x"
    storage.current().erase("h")


@pytest.mark.parametrize("state", ["down", "cut", "refuse"])
def test_a_storage_that_fails_says_so(wire: Wire, state: str) -> None:
    storage.current().write("sessions/f/file", [b"x" * 2**20])
    wire.state = state
    with pytest.raises(storage.StorageUnavailable):
        storage.current().write("sessions/f/file", [b"y" * 2**20])
    with pytest.raises(storage.StorageUnavailable):
        bytes_of("sessions/f/file")
    wire.state = "up"
    assert bytes_of("sessions/f/file") == b"x" * 2**20


def test_a_server_that_fails_inside_is_unavailable_whatever_it_is_asked_but_for_a_name(wire: Wire) -> None:
    """S3's 500 InternalError is also what servers on top of file systems say to a name that is a folder's: when they write."""
    store = storage.current()
    store.write("sessions/i/file", [b"x"])
    wire.state = "broken"
    asked: list[Callable[[], object]] = [
        lambda: store.read("sessions/i/file"), lambda: store.read("sessions/i/file", 0, 0),
        lambda: store.delete("sessions/i/file"), lambda: store.erase("i"), store.answers, lambda: store.sweep(0),
    ]  # fmt: skip
    for question in asked:
        with pytest.raises(storage.StorageUnavailable):
            question()
    with pytest.raises(storage.NameTaken):
        store.write("sessions/i/file", [b"y"])
    wire.state = "up"
    assert bytes_of("sessions/i/file") == b"x"


def test_a_stored_file_of_a_server_that_fails_inside_is_a_503(api: Api, wire: Wire) -> None:
    session = SessionFactory(project=api.project, status="terminated", ended_at=dt.datetime.now(dt.UTC))
    storage.current().write(storage.name_of(session.pk, "a"), [b"x"])
    StoredFile.objects.create(
        session=session, path="a", name=storage.name_of(session.pk, "a"), size=1, mtime=0, etag="e"
    )
    wire.state = "broken"
    error_of(api.get(f"/sessions/{session.pk}/files/a"), 503, "ServiceUnavailable")
    wire.state = "up"
    assert api.get(f"/sessions/{session.pk}/files/a").getvalue() == b"x"


@pytest.mark.parametrize(
    "url", ["http://x/b", "s3://key@host/b", "s3://k:s@host", "s3://k:s@host/b?what=1", "s3://k:s@host/b?tls=maybe"]
)
def test_a_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="WORKSPACE_STORAGE_URL"):
        storage_url.workspaces(url, Path("/nowhere"))


def test_a_wrong_secret_is_refused_by_the_server(s3_server: Server, wire: Wire, settings: Any) -> None:
    url = wire.url.replace("secret", "wrong")
    settings.STORAGES = {**settings.STORAGES, "workspaces": storage_url.workspaces(url, Path("/nowhere"))}
    with pytest.raises(storage.StorageUnavailable):
        storage.current().write("sessions/w/file", [b"x"])
    assert not (s3_server.bucket / "sessions/w").exists()


# --- Debts ---------------------------------------------------------------------------------------------------------------


def owe(session_id: str, what: Owed) -> None:
    with transaction.atomic():
        debts.owe(session_id, what)


def test_a_debt_grows_more_urgent_and_never_less(api: Api) -> None:
    session = SessionFactory(project=api.project)
    for what, expected in [
        (Owed.COPY, "copy"),
        (Owed.SAVE, "save"),
        (Owed.COPY, "save"),
        (Owed.ERASE, "erase"),
        (Owed.SAVE, "erase"),
    ]:
        owe(session.pk, what)
        assert StorageDebt.objects.get().what == expected
    text = metrics.exposition().decode()
    assert 'sandbox_storage_debts{state="owed",what="erase"} 1.0' in text


def test_one_who_pays_for_an_older_state_does_not_strike_out_a_newer_one(api: Api) -> None:
    session = SessionFactory(project=api.project)
    owe(session.pk, Owed.COPY)
    old = StorageDebt.objects.get()
    owe(session.pk, Owed.COPY)
    assert not copies._strike_out(old)
    assert copies._strike_out(StorageDebt.objects.get())
    assert not StorageDebt.objects.exists()


def test_the_debt_of_a_dead_process_is_taken_over_and_that_of_a_living_one_is_not(api: Api) -> None:
    session = SessionFactory(project=api.project)
    other = Process.objects.create(kind="worker:copies", host="h", pid=1)
    owe(session.pk, Owed.ERASE)
    StorageDebt.objects.update(taker=other.pk)
    copies.pay(session.pk)
    assert StorageDebt.objects.exists()
    Process.objects.filter(pk=other.pk).update(dead_at=dt.datetime.now(dt.UTC))
    copies.pay(session.pk)
    assert not StorageDebt.objects.exists()


def test_files_of_a_sandbox_that_answers_nonsense_are_owed_still(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    session = SessionFactory(project=api.project, running=True)
    type(session.container).objects.update(socket="/nowhere/executor.sock")
    owe(session.pk, Owed.SAVE)
    StorageDebt.objects.update(since=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=60))
    monkeypatch.setattr(copies, "sync", Mock(side_effect=ExecutorProtocolError("The executor sent nonsense.")))
    copies.pay(session.pk)
    debt = StorageDebt.objects.get()
    assert (debt.what, debt.attempts, debt.lost_at) == (Owed.SAVE, 1, None) and "nonsense" in debt.error
    assert Session.objects.get(pk=session.pk).files_saved_at is None


# --- The service ---------------------------------------------------------------------------------------------------------


@pytest.mark.bubblewrap
def test_what_a_run_made_is_copied_after_it_and_all_at_the_end(live: Api, either: Any) -> None:
    session_id = live.session()
    path_of = live.get(f"/sessions/{session_id}").json()["workspace_path"]
    scheme = f"s3://{BUCKET}" if either else "workspace:/"
    assert path_of == f"{scheme}/sessions/{session_id}/"
    live.run(session_id, "import os\nos.mkdir('out')\nopen('out/a', 'w').write('one')\nopen('b', 'w').write('x')")
    eventually(lambda: stored(session_id, "out/a"))
    assert bytes_of(stored(session_id, "out/a").name) == b"one"
    live.run(
        session_id,
        "import os\nopen('out/a', 'w').write('two')\nos.remove('b'); os.mkdir('b'); open('b/c', 'w').write('y')",
    )
    eventually(lambda: stored(session_id, "b/c"))
    assert bytes_of(stored(session_id, "out/a").name) == b"two"
    assert stored(session_id, "b") is None
    for name in NAMES:
        live.upload(session_id, name, name.encode())
    live.run(session_id, "f = open('sparse', 'wb'); f.truncate(5 * 2**20); f.seek(3 * 2**20); f.write(b'x'); f.close()")
    live.delete(f"/sessions/{session_id}")
    assert saved_and_released(session_id).files_saved_at
    for name in NAMES:
        assert live.get(f"/sessions/{session_id}/files/{quote(name)}").getvalue() == name.encode(), name
    sparse = live.get(f"/sessions/{session_id}/files/sparse").getvalue()
    assert (len(sparse), sparse.count(b"x"), sparse[3 * 2**20 : 3 * 2**20 + 1]) == (5 * 2**20, 1, b"x")
    assert {item["path"] for item in live.get(f"/sessions/{session_id}/files").json()["files"]} == {
        *NAMES,
        "out/a",
        "b/c",
        "sparse",
    }
    live.delete(f"/sessions/{session_id}?purge=true")
    eventually(lambda: not StoredFile.objects.filter(session=session_id).exists())
    error_of(live.get(f"/sessions/{session_id}/files/out/a"), 404, "FileNotFound")


@pytest.mark.bubblewrap
def test_a_thousand_small_files(live: Api) -> None:
    session_id = live.session()
    live.run(session_id, "import os\nos.mkdir('many')\nfor n in range(1000):\n    open(f'many/{n}', 'w').write(str(n))")
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: Session.objects.get(pk=session_id).released_at, 60)
    assert live.get(f"/sessions/{session_id}/files").json()["total"] == 1000
    assert live.get(f"/sessions/{session_id}/files/many/999").getvalue() == b"999"


@pytest.mark.bubblewrap
def test_a_workspace_of_many_pages_is_saved_and_given_on_whole(live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.drivers.executor_client.sync.PAGE", 7)
    session_id = live.session()
    code = "import os\nfor n in range(60):\n    os.makedirs(f'd{n % 5}', exist_ok=True)\n    open(f'd{n % 5}/{n}', 'w').write(str(n))"
    live.run(session_id, code)
    eventually(lambda: StoredFile.objects.filter(session=session_id).count() == 60)
    live.run(session_id, "import os\nos.remove('d0/0'); os.remove('d4/59'); open('d1/1', 'w').write('more')")
    eventually(lambda: StoredFile.objects.filter(session=session_id).count() == 58)
    fork = live.session(workspace_from=session_id)
    assert live.run(fork, "import os\nprint(sum(len(f) for _, _, f in os.walk('.')))")["stdout"] == "58\n"
    live.delete(f"/sessions/{session_id}")
    saved_and_released(session_id)
    assert live.get(f"/sessions/{session_id}/files").json()["total"] == 58
    assert live.get(f"/sessions/{session_id}/files/d3/58").getvalue() == b"58"


def test_a_batch_is_seen_when_all_of_it_is_safe_and_not_before(either: Any, settings: Any) -> None:
    store = storage.current()

    def broken() -> Iterator[bytes]:
        if either is None:
            with pytest.raises(storage.NotStored):
                store.read("sessions/t/a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), store.batch() as write:
        [write("sessions/t/a", [b"1"]), write("sessions/t/b", broken())]
    with store.batch() as write:
        assert [write(f"sessions/t/d{n % 3}/{n}", [b"x" * n]) for n in range(20)] == [*range(20)]
    assert [bytes_of(f"sessions/t/d{n % 3}/{n}") for n in range(20)] == [b"x" * n for n in range(20)]
    if either is None:
        with pytest.raises(storage.NameTaken), store.batch() as write:
            write("sessions/t/d0", [b"a folder is there"])
        with pytest.raises(storage.NameTaken), store.batch() as write:
            write("sessions/t/d0/0/below", [b"a file is there"])
        assert not list(Path(settings.STORAGES["workspaces"]["OPTIONS"]["location"], "tmp").iterdir())
    store.erase("t")


@pytest.mark.bubblewrap
def test_while_the_storage_is_down_nothing_is_deleted_and_then_all_is_paid(live: Api, wire: Wire) -> None:
    session_id = live.session()
    live.upload(session_id, "kept", b"x" * 300_000)
    wire.state = "cut"
    live.delete(f"/sessions/{session_id}")
    eventually(lambda: StorageDebt.objects.filter(pk=session_id, attempts__gte=2).exists())
    debt = StorageDebt.objects.get(pk=session_id)
    assert (debt.what, debt.lost_at) == ("save", None) and debt.error
    session = Session.objects.get(pk=session_id)
    assert (session.released_at, session.files_saved_at) == (None, None)
    assert session.container.status == ContainerStatus.RUNNING
    assert debts.unsaved_containers() == {session.container.name}
    lifecycle.release(session_id)
    # Downloads go on, from the sandbox.
    assert live.get(f"/sessions/{session_id}/files/kept").getvalue() == b"x" * 300_000
    wire.state = "up"
    saved_and_released(session_id)
    assert not StorageDebt.objects.exists()
    assert live.get(f"/sessions/{session_id}/files/kept").getvalue() == b"x" * 300_000
    wire.state = "down"
    error_of(live.get(f"/sessions/{session_id}/files/kept"), 503, "ServiceUnavailable")
    assert live.get(f"/sessions/{session_id}/files").json()["total"] == 1


@pytest.mark.bubblewrap
def test_a_dead_storage_does_not_hold_the_sandbox_for_ever(live: Api, wire: Wire, settings: Any) -> None:
    settings.WORKSPACE_SAVE_PATIENCE = 1
    session_id = live.session()
    live.upload(session_id, "lost", b"x")
    wire.state = "refuse"
    live.delete(f"/sessions/{session_id}")
    session = saved_and_released(session_id)
    assert session.files_saved_at is None and "not all of its files could be saved" in session.status_detail
    assert StorageDebt.objects.get(pk=session_id).lost_at
    assert 'sandbox_storage_debts{state="lost",what="save"} 1.0' in metrics.exposition().decode()
    error_of(live.get(f"/sessions/{session_id}/files/lost"), 404, "FileNotFound")


@pytest.mark.bubblewrap
@pytest.mark.parametrize("verb", ["open_file", "list_files"])
def test_a_sandbox_that_hangs_up_or_is_late_is_asked_again(
    live: Api, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """However long its session has been over: it is there, and its files are nowhere else."""
    session_id = live.session()
    with monkeypatch.context() as broken:
        broken.setattr(
            ExecutorClient, verb, Mock(side_effect=ExecutorUnavailable("The executor closed the connection."))
        )
        live.run(session_id, "open('result', 'w').write('dear')")
        eventually(lambda: StorageDebt.objects.filter(pk=session_id, what=Owed.COPY, attempts__gte=1).exists())
        live.delete(f"/sessions/{session_id}")
        long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=60)
        eventually(lambda: StorageDebt.objects.filter(pk=session_id, what=Owed.SAVE).update(since=long_ago))
        eventually(lambda: StorageDebt.objects.filter(pk=session_id, attempts__gte=2).exists())
        debt, session = StorageDebt.objects.get(pk=session_id), Session.objects.get(pk=session_id)
        assert (debt.lost_at, session.files_saved_at, session.released_at) == (None, None, None)
    assert saved_and_released(session_id).files_saved_at
    assert live.get(f"/sessions/{session_id}/files/result").getvalue() == b"dear"
    assert not StorageDebt.objects.exists()


@pytest.mark.bubblewrap
@pytest.mark.parametrize(("status", "code"), [(429, "busy"), (500, "internal")])
def test_a_file_that_the_sandbox_refuses_is_owed_still_and_the_others_are_safe(
    live: Api, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    whole = ExecutorClient.open_file

    def refusing(client: ExecutorClient, path: str, *rest: Any) -> Any:
        if path == "bad":
            raise ExecutorRefused(status, code, "not now")
        return whole(client, path, *rest)

    session_id = live.session()
    with monkeypatch.context() as broken:
        broken.setattr(ExecutorClient, "open_file", refusing)
        live.run(session_id, "for name in ('a', 'bad', 'c'):\n    open(name, 'w').write(name)")
        live.delete(f"/sessions/{session_id}")
        eventually(lambda: StorageDebt.objects.filter(pk=session_id, what=Owed.SAVE, attempts__gte=1).exists())
        assert stored(session_id, "a") and stored(session_id, "c") and not stored(session_id, "bad")
        assert Session.objects.get(pk=session_id).released_at is None
    assert saved_and_released(session_id).files_saved_at
    assert live.get(f"/sessions/{session_id}/files/bad").getvalue() == b"bad"


@pytest.mark.bubblewrap
def test_a_sandbox_that_stays_silent_is_given_up_and_its_session_says_so(
    live: Api, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.WORKSPACE_SAVE_PATIENCE = 1
    session_id = live.session()
    live.upload(session_id, "lost", b"x")
    silent = Mock(side_effect=ExecutorUnavailable("The executor did not answer within the deadline."))
    monkeypatch.setattr(ExecutorClient, "list_files", silent)
    live.delete(f"/sessions/{session_id}")
    session = saved_and_released(session_id)
    assert session.files_saved_at is None and "its sandbox did not give them in time" in session.status_detail
    assert StorageDebt.objects.get(pk=session_id).lost_at


@pytest.mark.bubblewrap
def test_what_was_copied_after_runs_outlives_a_sandbox_that_dies(live: Api) -> None:
    session_id = live.session()
    live.run(session_id, "open('result', 'w').write('dear')")
    eventually(lambda: stored(session_id, "result") and not StorageDebt.objects.exists())
    session = Session.objects.select_related("container__node").get(pk=session_id)
    from runtime.services.nodes import driver_of

    driver_of(session.container.node).remove(session.container.name)
    eventually(lambda: live.get(f"/sessions/{session_id}").json()["status"] == "failed")
    saved_and_released(session_id)
    assert live.get(f"/sessions/{session_id}/files/result").getvalue() == b"dear"
