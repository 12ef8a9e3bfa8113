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
from tests.containment.targets import Target

TIMES = 1000
PAGE = Path(__file__).parents[2] / "docs" / "containment.md"
IMAGE = "sandbox/python:3.11-basic"
HEAD = """# What was tried from inside, and what held

Made by `make probe`, which tries each case on real sandboxes and fails if anything goes through in one of ours.
"Held" means that it was refused or ended at its limit; what went through is quoted. The last column is what `docker run`
gives by itself; a case that needs the executor makes no sense there (–).

gVisor (`runsc`) puts a kernel in user space between. A sandbox is one process of the host there: beyond a limit, or where
that kernel gives up (Debian's is of 2022), all of it ends, its session with it, and nothing gets out. What its own kernel
allows inside (namespaces, say) does not reach the host's, and is quoted for honesty.

"""


def main() -> int:
    """The exit code."""
    skipped, columns, targets = [], {}, []
    all_cases = matrix.cases(TIMES)
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sbxp-")))
        engine = None
        if missing := requirements.docker_missing():
            skipped.append(f"docker: {missing}")
        else:
            engine, gvisor = matrix.with_own_engine(stack, ("sandbox/base:bookworm", IMAGE))
            targets.append(lambda: matrix.docker(IMAGE, state / "d", engine.url))
            if gvisor:
                targets.append(lambda: matrix.docker(IMAGE, state / "g", engine.url, "runsc"))
            else:
                skipped.append("docker, runsc: runsc is not installed (apt-get install runsc)")
            targets.append(lambda: matrix.plain(engine, IMAGE))
        if missing := requirements.bubblewrap_missing():
            skipped.append(f"bubblewrap: {missing}")
        else:
            image = matrix.bubblewrap_image(state / "image")
            targets.insert(-1 if targets else 0, lambda: matrix.bubblewrap(image, state / "b"))
        for make in targets:
            columns |= _column(make(), all_cases)
        page = HEAD + matrix.table(all_cases, columns) + f"\n\nOn {matrix.versions(engine)}.\n"
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
