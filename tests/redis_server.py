"""A Redis of a test's own: a Unix socket in a temporary folder, nothing kept on disk, gone afterwards."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import redis


class RedisServer:
    """`url` stays the same from start to start."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.client = redis.Redis.from_url(self.url, socket_timeout=5)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        command = ["redis-server", "--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, cwd=self._socket.parent, stdout=subprocess.DEVNULL)
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                assert self._process.poll() is None, "redis-server does not start"

    def kill(self) -> None:
        """Without a word to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """It takes connections, and does not answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `hang`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def published(self) -> int:
        """How many rings it has carried since its start."""
        said = self.client.info("commandstats").get("cmdstat_publish", {})
        return int(said.get("calls", 0))

    def subscribers(self) -> int:
        """Listeners of whatever channel."""
        channels = self.client.pubsub_channels()
        return sum(count for _, count in self.client.pubsub_numsub(*channels)) if channels else 0
