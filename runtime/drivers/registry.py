"""Which drivers there are, and which one a host gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime.drivers.base import Driver
from runtime.drivers.errors import DriverError, RuntimeUnsupported


@dataclass(frozen=True)
class Choice:
    """A kind of runtime, the engine's URL where it has one, and why it was chosen."""

    runtime_type: str
    url: str
    reason: str


def load(runtime_type: str, *, instance: str, state_dir: Path, url: str | None = None) -> Driver:
    """A driver. Raises `RuntimeUnsupported` for a kind that is not known.

    Imported here: Docker's SDK takes 0.4 s and 15 MB, and the web server and most workers never ask an engine.
    """
    if runtime_type == "docker":
        from runtime.drivers.docker import DockerDriver

        return DockerDriver(instance, state_dir, url)
    if runtime_type == "bubblewrap":
        from runtime.drivers.bubblewrap import BubblewrapDriver

        return BubblewrapDriver(instance, state_dir)
    raise RuntimeUnsupported(f"There is no runtime {runtime_type!r}: it is docker or bubblewrap.")


def detect(wanted: str, *, docker_url: str, instance: str = "detect", state_dir: Path = Path("/nonexistent")) -> Choice:
    """What `wanted` ("auto", "docker", "bubblewrap") means on this host. Raises DriverError where it can't be had.

    "auto" is Docker where an engine answers, else bubblewrap. Nothing is made: only `check` is asked.
    """
    docker = load("docker", instance=instance, state_dir=state_dir, url=docker_url)
    bubblewrap = load("bubblewrap", instance=instance, state_dir=state_dir)
    if wanted == "bubblewrap":
        bubblewrap.check()
        return Choice("bubblewrap", "", "SANDBOX_RUNTIME asks for it")
    try:
        docker.check()
        return Choice("docker", docker_url, "an engine answers" if wanted == "auto" else "SANDBOX_RUNTIME asks for it")
    except DriverError as error:
        if wanted == "docker":
            raise
        absent = str(error)
    bubblewrap.check()
    return Choice("bubblewrap", "", f"no Docker here: {absent}")
