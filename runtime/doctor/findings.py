"""What a check found, and the table that an operator reads."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

WIDTH = 110


class Level(StrEnum):
    """How good it is. Only a `PROBLEM` makes --strict fail."""

    OK = "ok"
    WEAK = "weak"  # works, with a wall less or a softer limit
    PROBLEM = "PROBLEM"  # sandboxes can't be made, or are not safe


@dataclass(frozen=True)
class Finding:
    """One line of the table. `mend` says what to do about it, where there is something to do."""

    subject: str
    level: Level
    words: str
    mend: str = ""


def ok(subject: str, words: str) -> Finding:
    """It holds."""
    return Finding(subject, Level.OK, words)


def weak(subject: str, words: str, mend: str = "") -> Finding:
    """It could be better."""
    return Finding(subject, Level.WEAK, words, mend)


def problem(subject: str, words: str, mend: str = "") -> Finding:
    """It must be mended."""
    return Finding(subject, Level.PROBLEM, words, mend)


def table(findings: Iterable[Finding]) -> str:
    """In columns: level, subject, words; below each what mends it."""
    rows = list(findings)
    subject = max((len(row.subject) for row in rows), default=0)
    margin = " " * (len(Level.PROBLEM) + subject + 4)
    lines = []
    for row in rows:
        head = f"{row.level:<{len(Level.PROBLEM)}}  {row.subject:<{subject}}  "
        lines += textwrap.wrap(row.words, WIDTH, initial_indent=head, subsequent_indent=margin)
        if row.mend:
            lines += textwrap.wrap(
                row.mend, WIDTH, initial_indent=f"{margin}-> ", subsequent_indent=f"{margin}   ", break_on_hyphens=False
            )
    return "\n".join(lines)


def verdict(findings: Iterable[Finding]) -> str:
    """The last line: how many of each kind."""
    counts = dict.fromkeys(Level, 0)
    for row in findings:
        counts[row.level] += 1
    return f"{counts[Level.OK]} hold, {counts[Level.WEAK]} are weaker than they could be, {counts[Level.PROBLEM]} must be mended."
