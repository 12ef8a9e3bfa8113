"""A wire to PostgreSQL that fails: cut after the server has done what it was asked for and before the client learns of it, or silent."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.db import connection

SO_ATTACH_FILTER = 26


class Wire:
    """Listens in that folder as a server would (without one, at a port of 127.0.0.1), and passes everything on."""

    def __init__(self, folder: Path | None, host: str, port: str) -> None:
        if folder is None:
            self.listener = socket.create_server(("127.0.0.1", 0))
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(folder / f".s.PGSQL.{port}"))
            self.listener.listen()
        self._ends: list[socket.socket] = []
        self._upstream = host, port
        self._last_words = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def cut_behind(self, statement: bytes) -> None:
        """The next statement with these words is done, and its answer lost with the connection."""
        self._last_words = statement

    def fall_silent(self) -> None:
        """What is sent over the connections that there are is not even acknowledged, as where a network swallows all. Only TCP can."""
        code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # return 0: keep nothing of a packet
        program = struct.pack("HL", 1, ctypes.addressof(code))
        for end in [
            end for end in self._ends if end.fileno() >= 0
        ]:  # a thread of an earlier test may have come and gone
            while fcntl.ioctl(end, termios.TIOCOUTQ, b"\0" * 4) != b"\0" * 4:
                pass  # what it said before is still on its way, and would be said again and again
            end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self._ends.append(near)
            host, port = self._upstream
            if host.startswith("/"):
                far = socket.socket(socket.AF_UNIX)
                far.connect(f"{host}/.s.PGSQL.{port}")
            else:
                far = socket.create_connection((host, int(port)))
            lost = threading.Event()
            for way in (self._there, self._back):
                threading.Thread(target=way, args=(near, far, lost), daemon=True).start()

    def _there(self, near: socket.socket, far: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := near.recv(1 << 20):
                if self._last_words and self._last_words in data:
                    self._last_words = b""
                    lost.set()
                far.sendall(data)
        _end(near, far)

    def _back(self, near: socket.socket, far: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while (data := far.recv(1 << 20)) and not lost.is_set():
                near.sendall(data)
        _end(near, far)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def wire(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> Iterator[Wire]:
    """This thread's connection goes over it, and every one that is made inside the block."""
    given = connection.settings_dict
    made = Wire(folder, given["HOST"] or "/var/run/postgresql", str(given["PORT"] or 5432))
    connection.close()
    try:
        with monkeypatch.context() as patch:
            patch.setitem(given, "HOST", "127.0.0.1" if folder is None else str(folder))
            if folder is None:
                patch.setitem(given, "PORT", made.listener.getsockname()[1])
            yield made
    finally:
        connection.close()
        made.listener.close()
