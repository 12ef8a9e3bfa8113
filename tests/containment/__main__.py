"""`make probe`: every case on docker, docker with gVisor, bubblewrap and a plain `docker run`. Writes docs/containment.md.

The exit code is 1 if anything went through in a sandbox of ours.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests import requirements
from tests.containment import matrix
from tests.containment.cases import cases
from tests.containment.targets import Target

TIMES = 1000
PAGE = Path(__file__).parents[2] / "docs" / "containment.md"
HEAD = """# What was tried from inside, and what held

Made by `make probe`, which tries each case on real sandboxes and fails if anything goes through in one of ours.
"Held" means that it was refused or ended at its limit; what went through is quoted. The last column is what `docker run`
gives by itself; a case that needs the executor makes no sense there (–).

gVisor (`runsc`) puts a kernel in user space between. What that kernel allows inside does not reach the host's, and is quoted
for honesty. Below the table stands what is done for it, and what remains.

"""

FOOT = """
## gVisor

A sandbox of gVisor's is, for the host, one program. Where that program gets no more tasks or memory, it gives up, and the session ends
with it: nothing gets out, but nothing goes on either. So its limits inside come first:

- Processes are counted inside (`nproc`): as many as were asked for, but no more than the memory carries at 10 MiB each. The host's
  limit of tasks stands far beyond (its kernel takes 7 to 15 for each process): at the sandbox's own number of processes it had let
  ordinary runs end a sandbox now and then.
- A Python or shell run gets a MemoryError at three quarters of the memory limit. Several that together take more, or node, still
  reach the limit of the whole: the session then ends as `oom_killed`.
- The list of system calls is applied inside as well (`--oci-seccomp`, which `make doctor` asks for and the attestation insists on). It
  answers all that it refuses with EPERM. Priorities and cores of other processes, and device files, are refused by it too.
- Limits can't be changed while a sandbox runs: sessions of other cores or memory start cold.

What remains with Debian 12's version, of 2022, and with Debian 13's, of 2024: gVisor asks for no right to read `environ`, `maps` and
`fd` of the executor in /proc, where nothing secret is (the environment is PATH, LANG and HOME). Its tmpfs has no limit of files where a
workspace is one; ext4 workspaces have.

Its contract suite (`make gvisor`, `tests/drivers/contract`) is the others', test for test. Five of them ask for something else:

- `test_memory`: elsewhere the run ends as `oom`, counted in `oom_kills`. With gVisor it gets a MemoryError and nothing is counted: one
  process reaches its own limit first, since the cgroup's would end the sandbox with all its runs.
- `test_other_limits_while_it_runs`: elsewhere cpu and memory change. With gVisor it is `RuntimeUnsupported`: its kernel counted what it
  has at its start.
- `test_disk_and_inodes`, on tmpfs: elsewhere the number of files is limited. With gVisor their bytes are: its tmpfs knows no other limit.
- `test_the_executor_can_not_be_touched`: elsewhere `environ`, `maps` and `fd` of the executor can't be read. With gVisor they can: this
  version asks for no right to them, and nothing secret is there.
- `test_system_calls_that_are_refused`: elsewhere the answers are EPERM, ENOSYS where a program should look for another way, and
  EAFNOSUPPORT for socket families. With gVisor it is EPERM for all: the list as it is passed inside has one answer. `clone3` is left to
  its kernel, which has none (ENOSYS).

`make gvisor` runs all of the suite's tests for Docker. It is no part of CI, since this version is slow and old: run it each night, and
before a release.
"""


def main() -> int:
    """The exit code."""
    skipped, columns, targets = [], {}, []
    all_cases = cases(TIMES)
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sbxp-")))
        engine = None
        if missing := requirements.docker_missing():
            skipped.append(f"docker: {missing}")
        else:
            engine, gvisor = matrix.with_own_engine(stack)
            targets.append(lambda: matrix.docker(matrix.IMAGE, state / "d", engine.url))
            if gvisor:
                targets.append(lambda: matrix.docker(matrix.IMAGE, state / "g", engine.url, "runsc"))
            else:
                skipped.append("docker, runsc: runsc is not installed (apt-get install runsc)")
            targets.append(lambda: matrix.plain(engine, matrix.IMAGE))
        if missing := requirements.bubblewrap_missing():
            skipped.append(f"bubblewrap: {missing}")
        else:
            image = matrix.bubblewrap_image(state / "image")
            targets.insert(-1 if targets else 0, lambda: matrix.bubblewrap(image, state / "b"))
        for make in targets:
            columns |= _column(make(), all_cases)
        page = HEAD + matrix.table(all_cases, columns) + f"\n\nOn {matrix.versions(engine)}.\n"
        page += FOOT
        page += "".join(f"\nNot tried: {reason}.\n" for reason in skipped)
    PAGE.write_text(page)
    print(page)
    ours = [
        matrix.good(name, case, words)
        for name, column in columns.items()
        if "plain" not in name
        for case, words in zip(all_cases, column, strict=True)
    ]
    return int(not ours or not all(ours))


def _column(target: Target, all_cases: list[matrix.Case]) -> dict[str, list[str]]:
    found = []
    try:
        for case, words in matrix.tried(target, all_cases):
            print(f"{target.name:20} {case.number:9} {words[:200]}", flush=True)
            found.append(words)
    finally:
        target.close()
    return {target.name: found}


if __name__ == "__main__":
    sys.exit(main())
