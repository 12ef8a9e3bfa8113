"""`python -m tests.gvisor [pytest arguments]`: the drivers' contract suite with gVisor, on a Docker engine of its own that has runsc.

All of it runs. The few lines where a kernel of its own answers otherwise stand in the tests, beside the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.engine import RUNSC, Engine

IMAGES = ("sandbox/base:bookworm",)


def main(arguments: list[str]) -> int:
    """The exit code of pytest; 0 where there is no runsc, which is said."""
    if not Path(RUNSC["path"]).exists():
        print(f"Skipped: no {RUNSC['path']} (apt-get install runsc)")
        return 0
    engine = Engine()
    try:
        engine.start()
        engine.copy_images(*IMAGES)
        environment = {**os.environ, "DOCKER_HOST": engine.url, "TEST_OCI_RUNTIME": "runsc", "REQUIRE": "docker"}
        command = [sys.executable, "-m", "pytest", "-k", "docker", "tests/drivers/contract", *arguments]
        return subprocess.run(command, env=environment).returncode
    finally:
        engine.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
