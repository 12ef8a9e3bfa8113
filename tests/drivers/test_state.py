"""The state folder, its locks, and the log beside it."""

import datetime as dt
import json
import threading

import pytest

from runtime.drivers import logfile
from runtime.drivers.errors import EngineUnavailable
from runtime.drivers.state import StateFolder, check_instance
from runtime.drivers.types import SandboxState

BEGUN = dt.datetime(2026, 1, 6, tzinfo=dt.UTC)


@pytest.fixture
def state(tmp_path):
    return StateFolder(tmp_path, "docker/main")


def test_a_lock_is_held_by_one(state):
    with state.lock("sbx-1", 1):
        assert state.locked("sbx-1") and not state.locked("sbx-2")
        with pytest.raises(EngineUnavailable), state.lock("sbx-1", 0.05):
            pass
        with state.lock("sbx-2", 0.05):
            pass
    assert not state.locked("sbx-1")
    assert list((state.root / "locks").iterdir()) == []


def test_many_take_turns(state):
    inside, most = [], []

    def turn():
        with state.lock("sbx-1", 10):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=turn) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_a_record_is_whole_or_not_there(state):
    folder = state.folder("sbx-1")
    state.begin(folder)
    state.finish(folder, {"ref": "abc"})
    assert folder.read_meta()["ref"] == "abc" and folder.read_meta()["owner"] == "docker/main"
    (folder.path / "meta.json").write_text('{"ref": "a')
    assert folder.read_meta() is None
    assert state.remainder(folder).state is SandboxState.EXITED


def test_folders_of_others_are_left_alone(state):
    other = StateFolder(state.root, "bubblewrap/main")
    other.begin(other.folder("sbx-1"))
    state.begin(state.folder("sbx-2"))
    assert [folder.name for folder in state.folders()] == ["sbx-2"]
    assert not state.owns(state.folder("sbx-1"))


def test_the_socket_folder_admits_the_group_alone(state):
    folder = state.folder("sbx-1")
    state.begin(folder)
    assert folder.sock.stat().st_mode & 0o7777 == 0o2770
    folder.delete()
    assert not folder.path.exists()


@pytest.mark.parametrize("instance", ["", "a.b", "a/b", "x" * 41, "ä"])
def test_an_instance_that_is_none(instance):
    with pytest.raises(ValueError, match="not an instance id"):
        check_instance(instance)


def test_the_log_has_times_and_an_end(tmp_path):
    path = tmp_path / "log"
    assert logfile.read_log(path, 10, None, BEGUN) == ""
    later = BEGUN + dt.timedelta(hours=1)
    ready = {"time": later.timestamp(), "level": "info", "event": "ready", "pid": 1}
    path.write_text("\n".join(["bwrap: oops", "", json.dumps(ready), "Traceback", '{"time": "x"}']) + "\n")
    assert logfile.read_log(path, 10, None, BEGUN).splitlines() == [
        "2026-01-06T00:00:00.000Z bwrap: oops", "2026-01-06T01:00:00.000Z [INFO] ready pid=1", "2026-01-06T01:00:00.000Z Traceback",
        '2026-01-06T01:00:00.000Z {"time": "x"}',
    ]  # fmt: skip
    assert len(logfile.read_log(path, 10, later, BEGUN).splitlines()) == 3
    assert logfile.read_log(path, 1, None, BEGUN).endswith(' {"time": "x"}\n')
    assert logfile.read_log(path, 0, None, BEGUN) == ""


@pytest.mark.parametrize("time", ["0", "-1e9", "1e300", "1e400", "NaN", "true", "9" * 400, "[]", '"x"', "null", "9e10"])
def test_a_line_is_not_older_than_its_sandbox_nor_of_the_future(tmp_path, time):
    path = tmp_path / "log"
    path.write_text(f'{{"time": {time}, "level": "info", "event": "ready"}}\n')
    begun = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    (line,) = logfile.read_log(path, 10, None, begun).splitlines()
    when = dt.datetime.fromisoformat(line.split(" ", 1)[0])
    assert begun.replace(microsecond=0) <= when <= dt.datetime.now(dt.UTC)


def test_a_log_that_grew_is_cut_and_goes_on(tmp_path):
    path = tmp_path / "log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"0123456789abcde\n" * (logfile.MAX_BYTES // 16 + 1))
        logfile.trim_log(path)
        writer.write(b"the end\n")
    kept = path.read_bytes()
    assert len(kept) <= logfile.KEPT_BYTES + 16
    assert kept.startswith(b"0123456789abcde\n") and kept.endswith(b"abcde\nthe end\n")
    logfile.trim_log(path)
    assert path.read_bytes() == kept
    logfile.trim_log(tmp_path / "none")
