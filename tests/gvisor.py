"""`python -m tests.gvisor [pytest arguments]`: the drivers' contract suite with gVisor, on a Docker engine of its own that has runsc.

What a kernel of its own does differently stands in `DIFFERENT`, with the reason; everything else holds as with runc.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.engine import RUNSC, Engine

IMAGES = ("sandbox/base:bookworm",)
DIFFERENT = {
    "test_from_create_to_remove": "its kernel does not show the filter",
    "test_what_does_not_match_is_removed": "it shows neither privileges nor filter, and never has the host's network (--network=none)",
    "test_memory": "the sandbox is one process of the host: beyond the limit all of it ends",
    "test_pids": "the same",
    "test_other_limits_while_it_runs": "runsc can't change them: such sessions start cold",
    "test_disk_and_inodes": "its tmpfs has no limit of files; ext4 is kept",
    "test_there_is_no_network": "another errno: no route to host",
    "test_the_executor_can_not_be_touched": "an older one shows /proc/1 and takes priorities; nothing secret is there",
    "test_system_calls_that_are_refused": "they reach its own kernel, not the host's",
}


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
        words = " and ".join(["docker", *(f"not {name}" for name in DIFFERENT)])
        command = [sys.executable, "-m", "pytest", "-k", words, "tests/drivers/test_contract.py", *arguments]
        return subprocess.run(command, env=environment).returncode
    finally:
        engine.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
