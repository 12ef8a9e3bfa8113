"""The settings of the service itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from django.conf import settings
from django.core.checks import ERROR

from runtime.doctor.findings import Finding, ok, problem, weak
from sandbox_platform.checks import sandbox_settings


def check_settings() -> list[Finding]:
    """What the system checks say, as lines of the table."""
    found = []
    for message in sandbox_settings(None):
        make = problem if message.level >= ERROR or message.id == "sandbox.W001" else weak
        found.append(make("settings", str(message.msg), str(message.hint or "")))
    if settings.SECRET_KEY.startswith("django-insecure"):
        found.append(problem("settings", "SECRET_KEY is Django's example.", "Unset it: one is made and kept."))
    return found or [ok("settings", "DEBUG is off, SECRET_KEY is long, ALLOWED_HOSTS is a list of names.")]


def check_state_folder(folder: Path | None = None) -> Finding:
    """It holds the keys, the token, and the sockets of all sandboxes."""
    folder = folder or Path(settings.STATE_DIR)
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH:
        return problem("state folder", f"Every user of this host may write to {folder}.", f"chmod o-w {folder}")
    for name in ("secret-key", "token", "admin-password"):
        path = folder / name
        if path.exists() and path.stat().st_mode & (stat.S_IRWXO | stat.S_IRWXG):
            return problem("state folder", f"{path} can be read by others.", f"chmod 600 {path}")
    return ok("state folder", f"{folder}: keys can be read by uid {os.geteuid()} alone.")
