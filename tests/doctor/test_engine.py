"""What the doctor makes of an engine's answers, and of its socket."""

import multiprocessing
import os
import socket

import pytest

from runtime.doctor import engine
from runtime.doctor.findings import Level

GOOD_INFO = {
    "LiveRestoreEnabled": True,
    "SecurityOptions": ["name=seccomp,profile=default", "name=userns", "name=apparmor"],
    "Runtimes": {
        "runc": {},
        "runsc": {"path": "runsc", "runtimeArgs": ["--host-uds=create", "--network=none", "--oci-seccomp"]},
    },
    "Driver": "overlay2",
    "SwapLimit": True,
}
GOOD_VERSION = {"Components": [{"Name": "Engine", "Version": "29.5.1"}, {"Name": "runc", "Version": "1.4.3"}]}


def levels(findings):
    return {finding.subject: finding.level for finding in findings}


def test_an_engine_as_it_should_be():
    assert set(levels(engine.check_engine(GOOD_INFO, GOOD_VERSION)).values()) == {Level.OK}
    assert engine.has_apparmor(GOOD_INFO)


@pytest.mark.parametrize(
    ("subject", "change", "level"),
    [
        ("live-restore", {"LiveRestoreEnabled": False}, Level.WEAK),
        ("user remapping", {"SecurityOptions": ["name=seccomp,profile=default"]}, Level.WEAK),
        ("gVisor", {"Runtimes": {"runc": {}}}, Level.WEAK),
        ("gVisor", {"Runtimes": {"runsc": {"path": "runsc"}}}, Level.PROBLEM),
        ("swap limit", {"SwapLimit": False}, Level.PROBLEM),
        ("image storage", {"Driver": "vfs"}, Level.WEAK),
    ],
)
def test_what_is_missing_is_told_with_a_way_to_mend_it(subject, change, level):
    found = engine.check_engine(GOOD_INFO | change, GOOD_VERSION)
    assert {name for name, value in levels(found).items() if value != Level.OK} == {subject}
    (told,) = (finding for finding in found if finding.subject == subject)
    assert told.level == level and told.mend


@pytest.mark.parametrize("old", ["20.10.24+dfsg1", "29.5.0", "", "v28.1"])
def test_an_old_engine_is_told(old):
    version = {"Components": [{"Name": "Engine", "Version": old}, {"Name": "runc", "Version": "1.4.3"}]}
    assert levels(engine.check_engine(GOOD_INFO, version))["engine version"] == Level.WEAK


@pytest.mark.docker
def test_the_engine_of_this_host():
    url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    found = levels(engine.check_engine(*engine.ask(url)))
    assert set(found) == {"engine version", "live-restore", "user remapping", "gVisor", "image storage", "swap limit"}
    assert engine.check_socket(url).level == Level.OK
    mounts = engine.check_mount_namespace(url)
    assert mounts is not None and mounts.level == Level.OK


def test_no_engine(tmp_path):
    with pytest.raises(ConnectionError):
        engine.ask(f"unix://{tmp_path}/none.sock")


@pytest.mark.parametrize(
    ("mode", "level"), [(0o660, Level.OK), (0o600, Level.OK), (0o666, Level.PROBLEM), (0o662, Level.PROBLEM)]
)
def test_who_may_use_the_socket(tmp_path, mode, level):
    path = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(mode)
        assert engine.check_socket(f"unix://{path}").level == level


@pytest.mark.parametrize("url", ["tcp://10.0.0.1:2375", "http://localhost:2375", "unix:///nowhere/docker.sock"])
def test_a_socket_that_is_none(url):
    found = engine.check_socket(url)
    assert found.level == Level.PROBLEM and found.mend


@pytest.mark.bubblewrap
def test_an_engine_in_another_mount_namespace_is_told(tmp_path):
    path, ready = tmp_path / "e.sock", multiprocessing.Event()
    apart = multiprocessing.get_context("fork").Process(target=_listen_apart, args=(str(path), ready))
    apart.start()
    try:
        assert ready.wait(10)
        found = engine.check_mount_namespace(f"unix://{path}")
        assert found is not None and found.level == Level.PROBLEM
    finally:
        apart.kill()
        apart.join()


def _listen_apart(path, ready):
    import ctypes

    assert ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        ready.set()
        listener.accept()[0].recv(1)
        listener.accept()
