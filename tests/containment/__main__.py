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

gVisor (`runsc`) puts a kernel in user space between: what that kernel allows inside does not reach the host's, but it must hold here all
the same. Below the table stands what is done for it, and what remains.

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

Its /proc asks for no right: with Debian 12's version, of 2022, every process may read `environ`, `maps` and `fd` of every other, and open
what a descriptor leads to. A mount over `/proc/1` would hide nothing, since `/proc/01` is the same process. So runs have a pid namespace
of their own, and what is mounted at /proc is that one's view: the executor, its helpers and their threads are not in it, whenever they
are started.

- The namespace's first process is a stand-in that holds nothing: no capability, no descriptor. Its entry is closed under its plain name;
  under another spelling it shows the environment (PATH, LANG, HOME, HOSTNAME) and the places of libraries that a run's own entries show.
- To make it, the executor starts with SYS_ADMIN and SETPCAP, which count inside gVisor's kernel alone. It looks for that kernel first, and
  ends where it is another one (an engine may have another runtime under the name `runsc`). Both are given up before the socket is there,
  out of the bounding set too, and the attestation refuses a sandbox where they are not, or where the executor is known to /proc. No run
  and no imported module ever had them; `mount` and `unshare`, in the list with one set of flags each, are refused anew to all runs.
- The child that waits for the next run would be seen: it is forked only while no run is there, and not at all once JavaScript has run.
  Runs that overlap take some 20 ms longer for it.
- A session ends if its zygote dies (no user can do that): another one could not fork into the namespace.

What remains: runs of one session that overlap see `environ` and `maps` of each other's processes, and of a node that waits for its run,
and the numbers of their descriptors; what these lead to, they can open where its mode lets them (a run's request and pipes: no). A run's
process is root's for its first moments, and may be looked at then by those: it is a fork like their own. Its tmpfs has no limit of files
where a workspace is one; ext4 workspaces have.

Its contract suite (`make gvisor`, `tests/drivers/contract`) is the others', test for test. Four of them ask for something else:

- `test_memory`: elsewhere the run ends as `oom`, counted in `oom_kills`. With gVisor it gets a MemoryError and nothing is counted: one
  process reaches its own limit first, since the cgroup's would end the sandbox with all its runs.
- `test_other_limits_while_it_runs`: elsewhere cpu and memory change. With gVisor it is `RuntimeUnsupported`: its kernel counted what it
  has at its start.
- `test_disk_and_inodes`, on tmpfs: elsewhere the number of files is limited. With gVisor their bytes are: its tmpfs knows no other limit.
- `test_system_calls_that_are_refused`: elsewhere the answers are EPERM, ENOSYS where a program should look for another way, and
  EAFNOSUPPORT for socket families. With gVisor it is EPERM for all: the list as it is passed inside has one answer. `clone3` is left to
  its kernel, which has none (ENOSYS).

`make gvisor` runs all of the suite's tests for Docker, in CI as well where Debian's `runsc` can be had.
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
        words in (matrix.HELD, matrix.NOT_HERE)
        for name, column in columns.items()
        if "plain" not in name
        for words in column
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
