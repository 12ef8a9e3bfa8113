"""The host's own disk is full: a start fails with that reason, and the next one succeeds once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from runtime.services import disk
from sessions_app.services import provision
from tests.api.client import Api, eventually
from tests.api.conftest import live  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.bubblewrap]


@pytest.fixture
def tiny_disk(live: Api) -> Iterator[Path]:  # noqa: F811
    """A file system of 64 KiB where sandboxes keep their files."""
    folder = Path(settings.STATE_DIR) / "sandboxes"
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    yield folder
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_the_reason(live: Api, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(provision, "START_DEADLINE", 1.0)
    # Admission is past when the disk is found to be full.
    monkeypatch.setattr(disk, "size", lambda: 2**40)
    monkeypatch.setattr(disk, "free", lambda: 2**40)
    session_id = live.post("/sessions", {"template_id": "python-basic"}).json()["session_id"]
    ended = eventually(lambda: (s := live.get(f"/sessions/{session_id}").json())["status_reason"] and s)
    assert (ended["status"], ended["status_reason"]) == ("failed", "disk_full")
    assert str(settings.STATE_DIR) not in ended["status_detail"]
    eventually(lambda: not list(tiny_disk.glob("*")))
    subprocess.run(["umount", tiny_disk], check=True)
    assert live.run(live.session(), "def handler(event):\n    return 1")["return_value"] == 1
