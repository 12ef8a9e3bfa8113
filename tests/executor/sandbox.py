"""A real executor as PID 1 of a bubblewrap sandbox, and a client that speaks its protocol."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

EXECUTOR = Path(__file__).resolve().parents[2] / "executor"
USER = 20000


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        # Before there is a time-out: with one, a full backlog is an error rather than a reason to wait.
        self.sock.connect(self.path)
        self.sock.settimeout(self.timeout)


class Outcome:
    """The events of a run, put together."""

    def __init__(self, events: list[dict]) -> None:
        self.events = events
        self.result = events[-1]
        self.stdout_bytes, self.stderr_bytes = self._join("stdout"), self._join("stderr")

    def _join(self, name: str) -> bytes:
        return b"".join(base64.b64decode(e["d"]) for e in self.events if e["t"] == name)

    def __getattr__(self, name: str):
        return self.result[name]

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode()

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode()

    @property
    def value(self):
        return json.loads(self.result["return_value"])


class Sandbox:
    """`cgroups` are folders that the sandbox is put into; `options` go to the executor, `binds` to bwrap."""

    def __init__(
        self, *options: str, tmpfs_workspace: int = 0, binds: tuple[str, ...] = (), cgroups: tuple = ()
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sbx-test-"))
        self.run_dir, self.workspace = self.home / "run", self.home / "workspace"
        self.run_dir.mkdir(mode=0o700)
        self.workspace.mkdir()
        os.chown(self.workspace, USER, USER)
        self.workspace.chmod(0o2775)
        self.socket = str(self.run_dir / "executor.sock")
        self._ids = itertools.count(1)
        workspace = ["--bind", str(self.workspace), "/workspace"]
        if tmpfs_workspace:
            workspace = ["--perms", "0777", "--size", str(tmpfs_workspace), "--tmpfs", "/workspace"]
        command = [
            *("bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
            *("--as-pid-1", "--clearenv", "--cap-drop", "ALL"),
            *("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_KILL"),
            *("--proc", "/proc", "--dev", "/dev", "--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"),
            *("--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
            *("--perms", "1777", "--size", "67108864", "--tmpfs", "/tmp"),
            *("--perms", "1777", "--size", "16777216", "--tmpfs", "/dev/shm"),
            *workspace,
            *("--perms", "0755", "--dir", "/opt", "--perms", "0755", "--dir", "/opt/sandbox"),
            *("--ro-bind", str(EXECUTOR), "/opt/sandbox/executor", "--bind", str(self.run_dir), "/run/sbx"),
            *binds,
            *("--remount-ro", "/", "--chdir", "/", "--"),
            *("/usr/bin/python3", "-I", "/opt/sandbox/executor", "--socket", "/run/sbx/executor.sock"),
            *options,
        ]
        self.log_path = self.home / "log"

        def enter_cgroups() -> None:
            for folder in cgroups:
                Path(folder, "cgroup.procs").write_text(str(os.getpid()))

        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=enter_cgroups if cgroups else None
            )
        self._await_ready()

    def _await_ready(self) -> None:
        while self.process.poll() is None:
            try:
                if self.health()["state"] == "ready":
                    return
            except (FileNotFoundError, ConnectionRefusedError):
                pass
        raise RuntimeError("the executor did not start: " + self.log)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            # Its first process, whose end takes the whole namespace along; bwrap itself is only the one who waits.
            with suppress(ProcessLookupError, IndexError, FileNotFoundError):
                os.kill(self.init, signal.SIGKILL)
        self.process.wait()
        subprocess.run(["rm", "-rf", str(self.home)], check=True)  # rmtree is defeated by deep trees

    def request(self, method: str, target: str, body=None, headers=None, chunked: bool = False) -> Reply:
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, target, body=body, headers=headers or {}, encode_chunked=chunked)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def health(self) -> dict:
        return self.request("GET", "/v1/health").json()

    def new_id(self) -> str:
        return f"exec_{next(self._ids)}"

    def start(self, code: str, language: str = "python", run_id: str | None = None, **fields) -> Stream:
        """PUT ?follow=1: the run's events as they come."""
        return Stream(self, "PUT", f"/v1/runs/{run_id or self.new_id()}?follow=1", spec(code, language, **fields))

    def follow(self, run_id: str, query: str = "follow=1") -> Stream:
        return Stream(self, "GET", f"/v1/runs/{run_id}?{query}")

    def run(self, code: str, language: str = "python", **fields) -> Outcome:
        run_id = fields.pop("run_id", None) or self.new_id()
        outcome = self.start(code, language, run_id, **fields).outcome()
        assert self.request("DELETE", f"/v1/runs/{run_id}").status == 204
        return outcome

    def file(self, method: str, path: str, body=None, query: str = "", **kwargs) -> Reply:
        return self.request(method, "/v1/files/" + quote(path) + query, body, **kwargs)

    def processes(self, uid: int) -> list[int]:
        """Host pids of what runs as `uid` in this sandbox."""
        namespace = os.readlink(f"/proc/{self.init}/ns/pid")
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{name}").st_uid == uid and os.readlink(f"/proc/{name}/ns/pid") == namespace:
                    found.append(int(name))
            except OSError:
                continue
        return found

    @property
    def init(self) -> int:
        """The host's pid of the executor itself."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])


def spec(code: str, language: str = "python", **fields) -> str:
    if isinstance(fields.get("stdin"), bytes):
        fields["stdin"] = base64.b64encode(fields["stdin"]).decode()
    if "event" in fields:
        fields["event"] = json.dumps(fields["event"])
    return json.dumps({"language": language, "code": code, "event": "{}", "timeout": 20, **fields})


class Stream:
    """An event stream that is being read."""

    def __init__(self, sandbox: Sandbox, method: str, target: str, body: str | None = None) -> None:
        self.connection = UnixConnection(sandbox.socket)
        self.connection.request(method, target, body)
        self.response = self.connection.getresponse()
        self.status = self.response.status
        self.events: list[dict] = []

    def next(self) -> dict:
        line = self.response.readline()
        assert line, "the stream ended without a result"
        self.events.append(json.loads(line))
        return self.events[-1]

    def until(self, text: bytes) -> None:
        """Reads on until stdout holds `text`."""
        seen = b""
        while text not in seen:
            event = self.next()
            assert event["t"] != "result", event
            if event["t"] == "stdout":
                seen += base64.b64decode(event["d"])

    def outcome(self) -> Outcome:
        while not self.events or self.events[-1]["t"] != "result":
            self.next()
        self.connection.close()
        return Outcome(self.events)
