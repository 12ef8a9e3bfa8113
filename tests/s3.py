"""A real S3 server (rclone's) and, in front of it, a wire that can be cut: down, slow, refusing, breaking off."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

KEY, SECRET, BUCKET = "key-of-the-tests", "secret/with+signs", "sandbox"
REFUSAL = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: 89\r\n\r\n"
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No.</Message></Error>".ljust(89)
)

BROKEN = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: 110\r\n\r\n"
    + b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Please try again.</Message></Error>".ljust(110)
)


class Server:
    """`rclone serve s3` over a folder. It checks signatures and their expiry."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / BUCKET
        self.bucket.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        rclone = Path(sys.executable).with_name("rclone")
        command = [rclone, "serve", "s3", "--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{self.port}", folder]
        self._process = subprocess.Popen(
            [*command, "--config", "/dev/null", "--vfs-cache-mode", "off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline, "rclone does not serve"
                time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Wire:
    """A proxy of bytes. `state`: up; down (hangs up at once); cut (after some bytes of each direction); slow; refuse (403);
    broken (500).
    """

    def __init__(self, target: int) -> None:
        self.state, self.cut_after, self.bytes = "up", 100_000, 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """For WORKSPACE_STORAGE_URL."""
        return f"s3://{KEY}:{SECRET.replace('/', '%2F')}@127.0.0.1:{self.port}/{BUCKET}?tls=false"

    def close(self) -> None:
        self.state = "down"
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.state == "down":
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        back = threading.Thread(target=self._carry, args=(server, client), daemon=True)
        back.start()
        self._carry(client, server)
        back.join()
        client.close()
        server.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        carried = 0
        try:
            while data := source.recv(65536):
                state = self.state
                if state == "down" or (state == "cut" and carried + len(data) > self.cut_after):
                    break
                if state in ("refuse", "broken"):
                    source.sendall(REFUSAL if state == "refuse" else BROKEN)
                    break
                if state == "slow":
                    time.sleep(0.05)
                carried += len(data)
                self.bytes += len(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
