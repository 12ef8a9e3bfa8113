"""The state folder: what drivers keep on this host about each sandbox, and the lock that makes one change at a time.

<state>/locks/<name>              who holds it creates or removes that sandbox
<state>/sandboxes/<name>/sock/    the executor's socket, mounted at /run/sbx
                         ws/      the mount point of the workspace, ws.img its ext4 image
                         meta.json, log, etc/
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.drivers.errors import EngineUnavailable
from runtime.drivers.types import Sandbox, SandboxState

LOCK_PAUSE = 0.01
"""Seconds between two tries to take a lock that another process holds."""
_INSTANCE = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def check_instance(instance: str) -> str:
    """The instance id, which becomes part of labels and cgroup names. Raises `ValueError`."""
    if not _INSTANCE.fullmatch(instance):
        raise ValueError(f"not an instance id (letters, digits, - and _, at most 40): {instance!r}")
    return instance


class SandboxFolder:
    """One sandbox's folder. Making one of these touches nothing."""

    def __init__(self, root: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a sandbox name: {name!r}")
        self.name = name
        self.path = root / "sandboxes" / name
        self.sock = self.path / "sock"
        self.socket = self.sock / "executor.sock"
        self.workspace = self.path / "ws"
        self.image = self.path / "ws.img"
        self.etc = self.path / "etc"
        self.tmp = self.path / "tmp"
        self.shm = self.path / "shm"
        self.log = self.path / "log"
        self.status = self.path / "status"
        self._meta = self.path / "meta.json"

    def make(self) -> None:
        """Make the folders. The socket's has our group, so that a control plane that is not root gets in."""
        self.path.mkdir(mode=0o750, parents=True)
        self.workspace.mkdir(mode=0o755)
        self.sock.mkdir()
        os.chown(self.sock, -1, os.getegid())
        self.sock.chmod(0o2770)

    def read_meta(self) -> dict[str, Any] | None:
        """What was recorded last, None where nothing (readable) was."""
        try:
            meta = json.loads(self._meta.read_text())
        except (OSError, ValueError):
            return None
        return meta if isinstance(meta, dict) else None

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Record it: whole or not at all, whichever process dies meanwhile. (No sandbox outlives the host.)"""
        temporary = self._meta.with_suffix(".new")
        temporary.write_text(json.dumps(meta))
        temporary.replace(self._meta)

    def delete(self) -> None:
        """Delete the folder. The workspace is unmounted by now, so nothing of user code's is left in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.exists():
            shutil.rmtree(self.path)


class StateFolder:
    """All sandboxes of one driver and instance. `owner` ("docker/main") stands in every meta.json."""

    def __init__(self, root: Path, owner: str) -> None:
        self.root = root
        self.owner = owner

    def folder(self, name: str) -> SandboxFolder:
        """The folder of that name, there or not. Raises `ValueError` on a name that is none."""
        return SandboxFolder(self.root, name)

    def folders(self) -> list[SandboxFolder]:
        """Those that are there and ours, or nobody's."""
        try:
            names = sorted(os.listdir(self.root / "sandboxes"))
        except FileNotFoundError:
            return []
        found = [SandboxFolder(self.root, name) for name in names if _NAME.fullmatch(name)]
        return [folder for folder in found if self.owns(folder)]

    def owns(self, folder: SandboxFolder) -> bool:
        """Whether another owner's name stands in it: without a record, it is a remainder that anyone may clear."""
        meta = folder.read_meta()
        return meta is None or meta.get("owner") == self.owner

    def owners(self) -> set[str]:
        """Whoever has sandboxes in here, this one or not."""
        try:
            names = os.listdir(self.root / "sandboxes")
        except FileNotFoundError:
            return set()
        metas = (SandboxFolder(self.root, name).read_meta() for name in names if _NAME.fullmatch(name))
        return {str(meta["owner"]) for meta in metas if meta and "owner" in meta}

    def sweep_locks(self) -> None:
        """Remove the lock files of sandboxes that are gone: whoever died while it held one left it behind."""
        folder = self.root / "locks"
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return
        for name in names:
            if not _NAME.fullmatch(name) or self.folder(name).path.exists():
                continue
            try:
                descriptor = os.open(folder / name, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                # Taken first, so that nobody is left holding a file that has no name any more.
                if _take(descriptor, folder / name):
                    (folder / name).unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def begin(self, folder: SandboxFolder) -> None:
        """Make the folder and say whose it is."""
        folder.make()
        folder.write_meta({"owner": self.owner, "name": folder.name, "begun_at": dt.datetime.now(dt.UTC).isoformat()})

    def finish(self, folder: SandboxFolder, facts: dict[str, Any]) -> None:
        """Add what is known of the sandbox now that it is made to the end."""
        folder.write_meta({**(folder.read_meta() or {}), **facts})

    def remainder(self, folder: SandboxFolder) -> Sandbox:
        """A folder without a living sandbox: one that is being made or removed right now, or what one left behind."""
        meta = folder.read_meta() or {}
        begun = meta.get("begun_at")
        when = dt.datetime.fromisoformat(begun) if begun else dt.datetime.fromtimestamp(0, dt.UTC)
        return Sandbox(
            ref=meta.get("ref") or hashlib.sha256(folder.name.encode()).hexdigest(),
            name=folder.name,
            state=SandboxState.CREATED if self.locked(folder.name) else SandboxState.EXITED,
            socket=folder.socket,
            created_at=when,
            labels=meta.get("labels", {}),
        )

    @contextmanager
    def lock(self, name: str, deadline: float) -> Iterator[None]:
        """Hold the lock against all threads and processes. Raises `EngineUnavailable` after `deadline` seconds."""
        path = self.root / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + deadline
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            try:
                if _take(descriptor, path):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            if time.monotonic() > end:
                raise EngineUnavailable(f"sandbox {name} is being made or removed by another process")
            time.sleep(LOCK_PAUSE)
        try:
            yield
        finally:
            # Unlinked while it is held: who waits on the old file finds that it is no longer the one of that name.
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def locked(self, name: str) -> bool:
        """Whether someone is making or removing that sandbox right now."""
        try:
            descriptor = os.open(self.root / "locks" / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def _take(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
