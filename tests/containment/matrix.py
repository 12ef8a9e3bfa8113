"""Tries every case on every target that this machine has, and makes the table of it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.docker import DockerDriver
from tests.containment.cases.case import Case
from tests.containment.targets import Ours, Plain, Target
from tests.drivers.conftest import BASE_IMAGE, context
from tests.engine import RUNSC, Engine

EXECUTOR = Path(__file__).parents[2] / "executor"
IMAGE = "sandbox/probe:latest"
HELD = "held"
NOT_HERE = "–"
ENDS = "ends the sandbox"


def tried(target: Target, all_cases: list[Case]) -> Iterator[tuple[Case, str]]:
    """Each case and what went through: HELD for nothing, NOT_HERE where it makes no sense."""
    for case in all_cases:
        if case.ours and not target.ours:
            yield case, NOT_HERE
            continue
        try:
            words = case.check(target) or HELD
        except Exception as error:
            words = f"the case itself failed: {type(error).__name__}: {error}"
        if isinstance(target, Ours) and words != HELD and target.revive():
            words = ENDS
        yield case, words


def docker(image: str, state: Path, url: str | None = None, oci_runtime: str = "runc") -> Ours:
    """A Docker sandbox."""
    name = "docker" if oci_runtime == "runc" else f"docker, {oci_runtime}"
    return Ours(name, DockerDriver(f"probe{secrets.token_hex(3)}", state, url), image, oci_runtime)


def bubblewrap(image: str, state: Path) -> Ours:
    """A bubblewrap sandbox."""
    return Ours("bubblewrap", BubblewrapDriver(f"probe{secrets.token_hex(3)}", state), image)


def bubblewrap_image(folder: Path) -> str:
    """An image folder with the executor of this tree."""
    folder.mkdir()
    state = [folder, *folder.parents]
    for path in state[:2]:
        path.chmod(0o755)
    (folder / "site").mkdir()
    shutil.copytree(EXECUTOR, folder / "executor", ignore=shutil.ignore_patterns("__pycache__"))
    return str(folder)


def with_own_engine(stack: ExitStack) -> tuple[Engine, bool]:
    """An engine that has gVisor, if this machine has it, and IMAGE with the executor of this tree."""
    engine = Engine()
    stack.callback(engine.remove)
    engine.start()
    engine.copy_images(BASE_IMAGE)
    engine.client.images.build(fileobj=context(), custom_context=True, tag=IMAGE, rm=True)
    return engine, Path(RUNSC["path"]).exists()


def plain(engine: Engine, image: str) -> Plain:
    """`docker run` on that engine."""
    return Plain("plain `docker run`", image, {**os.environ, "DOCKER_HOST": engine.url})


def table(all_cases: list[Case], columns: dict[str, list[str]]) -> str:
    """In Markdown."""
    names = list(columns)
    lines = [f"| case | what is tried | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for row, case in enumerate(all_cases):
        words = [_cell(columns[name][row]) for name in names]
        lines.append(f"| {case.number} | {case.words} | {' | '.join(words)} |")
    tried_here = {name: [word for word in column if word != NOT_HERE] for name, column in columns.items()}
    totals = [f"**{sum(word == HELD for word in column)} of {len(column)}**" for column in tried_here.values()]
    return "\n".join([*lines, f"| | **held** | {' | '.join(totals)} |"])


def _cell(words: str) -> str:
    if words in (HELD, NOT_HERE):
        return words
    short = words.replace("|", "/").replace("\n", " ")
    return f"**{short[:90]}{'…' if len(short) > 90 else ''}**"


def versions(engine: Engine | None) -> str:
    """What it was tried on."""
    found = [f"Linux {os.uname().release.split('-')[0]}"]
    if engine:
        found += [f"{part['Name']} {part['Version']}" for part in engine.client.version()["Components"]]
    commands = [["bwrap", "--version"], ["runsc", "--version"]]
    for command in commands:
        try:
            found.append(subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0])
        except (OSError, IndexError):
            continue
    return ", ".join(found)
