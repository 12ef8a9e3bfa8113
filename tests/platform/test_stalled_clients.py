"""A client that takes nothing of its answer does not keep a thread of the web server for ever."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest

from sandbox_platform.supervisor import gunicorn_conf


def test_a_client_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunicorn_conf, "SEND_PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gunicorn_conf.when_ready(SimpleNamespace(LISTENERS=[SimpleNamespace(sock=listener)]))
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                accepted.setblocking(True)  # as the server's threads do
                begun = time.monotonic()
                with pytest.raises(BlockingIOError):
                    accepted.sendall(bytes(64 * 2**20))
                assert 0.5 < time.monotonic() - begun < 20
