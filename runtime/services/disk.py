"""The file system that the sandboxes' workspaces lie on. Their images are sparse: what is promised is not taken yet."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings


def size() -> int:
    """Bytes that it has in all."""
    found = os.statvfs(folder())
    return found.f_blocks * found.f_frsize


def free() -> int:
    """Bytes that may still be written."""
    found = os.statvfs(folder())
    return found.f_bavail * found.f_frsize


def short() -> bool:
    """Whether less is free than must stay so."""
    return free() < settings.DISK_RESERVE


def folder() -> Path:
    """A folder on it: the operator may have mounted one of their own for the sandboxes."""
    sandboxes = Path(settings.STATE_DIR) / "sandboxes"
    return sandboxes if sandboxes.is_dir() else Path(settings.STATE_DIR)
