"""A Docker engine that is not there, hangs, or talks nonsense: every verb ends in time, with one kind of error."""

import errno
import socket
import subprocess
import threading
import time

import pytest

from runtime.drivers import bubblewrap as bubblewrap_module
from runtime.drivers import docker as docker_module
from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.docker import DockerDriver
from runtime.drivers.errors import EngineUnavailable
from runtime.drivers.types import Resources, SandboxSpec

VERBS = {
    "check": lambda driver: driver.check(),
    "create": lambda driver: driver.create(SandboxSpec("sbx-1", "image")),
    "update": lambda driver: driver.update("sbx-1", Resources()),
    "inspect": lambda driver: driver.inspect("sbx-1"),
    "remove": lambda driver: driver.remove("sbx-1"),
    "list": lambda driver: driver.list(),
    "logs": lambda driver: driver.logs("sbx-1"),
    "stats": lambda driver: driver.stats("sbx-1"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_engine(tmp_path, verb):
    driver = DockerDriver("main", tmp_path / "state", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineUnavailable) as caught:
        VERBS[verb](driver)
    assert caught.value.transient


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}"])
def test_an_engine_that_is_none(tmp_path, answer):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "e.sock"))
        listener.listen(5)

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(EngineUnavailable):
            DockerDriver("main", tmp_path / "state", f"unix://{tmp_path}/e.sock").list()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_an_engine_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(docker_module, "TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "e.sock"))
        listener.listen(5)
        begun = time.monotonic()
        with pytest.raises(EngineUnavailable):
            DockerDriver("main", tmp_path / "state", f"unix://{tmp_path}/e.sock").check()
        assert time.monotonic() - begun < 2


@pytest.mark.bubblewrap
@pytest.mark.parametrize("fault", [subprocess.TimeoutExpired("bwrap", 10), OSError(errno.EAGAIN, "no more processes")])
def test_a_host_that_starts_no_process_in_time(tmp_path, monkeypatch, fault):
    def fail(*_, **__):
        raise fault

    driver = BubblewrapDriver("main", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(bubblewrap_module.subprocess, "run", fail)
        with pytest.raises(EngineUnavailable):
            driver.check()
    driver.check()
