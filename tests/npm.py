"""What the tests take from npm, by the lock file: installed once, whoever needs it first."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent / "js"


def install() -> Path:
    """The node_modules folder."""
    modules, done = FOLDER / "node_modules", FOLDER / "node_modules/.package-lock.json"
    with (FOLDER / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=200)
    return modules
