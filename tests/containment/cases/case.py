"""What a case is: code that tries something from inside. What goes through is printed: silence means that it held.

A check gives what went through, or "" where all was refused. `ours` marks those that only make sense with an executor inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.containment.targets import Ours, Target

PRELUDE = """
import ctypes, errno, glob, json, os, platform, resource, signal, socket, stat, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
def through(*words):
    print("THROUGH", *words, flush=True)
def tried(what, call, *arguments):
    try:
        call(*arguments)
    except (OSError, ValueError):
        return
    through(what)
def syscall(what, amd64, arm64, *arguments):
    if libc.syscall(amd64 if X86 else arm64, *[ctypes.c_ulong(a) for a in arguments]) >= 0:
        through(what)
"""


@dataclass(frozen=True)
class Case:
    """`number` is its name in the list of cases."""

    number: str
    words: str
    check: Callable[[Target], str]
    ours: bool = False


def inside(
    number: str, words: str, code: str, ours: bool = False, timeout: float = 20.0, ends: tuple[str, ...] = ("ok",)
) -> Case:
    """A case that is one piece of code, which must end in one of `ends`."""

    def check(target: Target) -> str:
        done = target.run(PRELUDE + code, timeout)
        lines = [line.removeprefix("THROUGH ") for line in done.stdout.splitlines() if line.startswith("THROUGH")]
        found = list(dict.fromkeys(lines))
        if done.outcome not in ends and target.ours:
            found.append(f"ended as {done.outcome}: {(done.stderr or done.stdout)[-300:]}")
        return "; ".join(found)

    return Case(number, words, check, ours)


def outside(number: str, words: str) -> Callable[[Callable[[Ours], str]], Case]:
    """A case that takes more than one run, or a look from the host."""
    return lambda check: Case(number, words, check, ours=True)  # type: ignore[arg-type]
