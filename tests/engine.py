"""A Docker engine of the test's own, on a private socket: one that may be killed, stopped and started again."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import docker
import docker.errors
import requests

RUNSC: dict[str, object] = {
    "path": "/usr/bin/runsc",
    "runtimeArgs": ["--host-uds=create", "--network=none", "--oci-seccomp"],
}
START_TIMEOUT = 60.0


class Engine:
    """Its data, its socket and its log are in a folder of its own, which `remove` deletes. Needs root and dockerd."""

    def __init__(self, live_restore: bool = False, runsc: dict[str, object] = RUNSC) -> None:
        """`runsc` is what the engine has under that name."""
        self.folder = Path(tempfile.mkdtemp(prefix="sbxd-"))
        self.url = f"unix://{self.folder}/d.sock"
        self.log = self.folder / "log"
        self._config = self.folder / "daemon.json"
        self._process: subprocess.Popen[bytes] | None = None
        runtimes = {"runsc": runsc} if Path(str(runsc["path"])).exists() else {}
        self._settings = {"live-restore": live_restore, "runtimes": runtimes}

    def start(self) -> None:
        """Until it answers."""
        self._config.write_text(json.dumps(self._settings))
        folder = self.folder
        (folder / "pid").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["dockerd", "--config-file", self._config, "--host", self.url, "--data-root", folder / "data",
                 "--exec-root", folder / "exec", "--pidfile", folder / "pid",
                 "--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + START_TIMEOUT
        while not self.answers():
            assert self._process.poll() is None and time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            client = docker.APIClient(base_url=self.url, version="auto", timeout=2)
        except (docker.errors.DockerException, requests.RequestException):
            return False
        client.close()
        return True

    def restart(self, live_restore: bool) -> None:
        """Killed, and started again."""
        self._settings["live-restore"] = live_restore
        self.kill()
        self.start()

    def kill(self) -> None:
        """As the OOM killer would: without a word. Its containerd dies with it; containers live on, until it is back at least."""
        assert self._process
        record = self.folder / "exec/containerd/containerd.pid"
        containerd = os.pidfd_open(int(record.read_text()))
        self._process.kill()
        self._process.wait()
        assert select.select([containerd], [], [], 20)[0]
        os.close(containerd)
        # A zombie, where nobody reaps it, would be taken for one that lives.
        record.unlink()

    def hang(self) -> None:
        """It takes connections, and answers none."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `hang`."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    @property
    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.url, timeout=60)

    def copy_images(self, *tags: str) -> None:
        """From the engine that the tests run with."""
        source = subprocess.Popen(["docker", "save", *tags], stdout=subprocess.PIPE)
        environment = {**os.environ, "DOCKER_HOST": self.url}
        subprocess.run(
            ["docker", "load", "-q"], stdin=source.stdout, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        assert source.wait() == 0

    def remove(self) -> None:
        """Containers, daemons, mounts and files."""
        if self._process and self._process.poll() is None:
            self.go_on()
            for container in self.client.containers.list(all=True):
                container.remove(force=True)
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for target in sorted((target for target in mounts if target.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", target], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
