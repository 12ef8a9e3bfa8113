"""What every builder takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Say = Callable[[str], None]
"""Takes one line for people: what is being done now. An empty one asks whether to go on; it may raise to stop the build."""


class BuildFailed(Exception):
    """The image can't be made. The message is for users: what failed and what to do."""


class Bootstrap(StrEnum):
    """When the base system is made from Debian packages instead of pulled."""

    NEVER = "never"
    IF_NEEDED = "if-needed"
    ALWAYS = "always"


@dataclass(frozen=True)
class Recipe:
    """What goes into an image. `image` is the name it gets, packages are as pip ("numpy>=1.24") and npm ("lodash@4.17.21") name them."""

    template_id: str
    image: str
    base_image: str
    languages: tuple[str, ...] = ("python", "shell")
    requirements: tuple[str, ...] = ()
    npm_packages: tuple[str, ...] = ()
    bootstrap: Bootstrap = Bootstrap.IF_NEEDED


@dataclass(frozen=True)
class Made:
    """What an image turned out to be: its digest ("sha256:..."), its size, and its packages, frozen: "numpy==2.1.0", "lodash@4.17.21"."""

    digest: str
    size_bytes: int
    packages: tuple[str, ...]


class Builder(Protocol):
    """Makes the images of one kind of runtime. All methods raise `BuildFailed`."""

    def fingerprint(self, recipe: Recipe, say: Say) -> str:
        """64 hex digits that change when anything changes that goes into the image. May fetch the base system."""

    def find(self, recipe: Recipe, fingerprint: str) -> str | None:
        """The reference of a finished image with this fingerprint."""

    def build(self, recipe: Recipe, fingerprint: str, say: Say) -> str:
        """Make it. The reference is what the driver takes: an image id for Docker, a folder for bubblewrap."""

    def describe(self, ref: str) -> Made:
        """Look at a finished image."""

    def prune(self, in_use: set[str]) -> list[str]:
        """Remove this installation's images that are not in use. What was removed."""
