"""What operators see of a container beyond its row: the engine's word on it, its figures, its log."""

from __future__ import annotations

import dataclasses
from typing import Any

from runtime.drivers.errors import DriverError
from runtime.models import Container, ContainerStatus
from runtime.services.nodes import driver_for

UP = (ContainerStatus.WARM, ContainerStatus.RUNNING, ContainerStatus.STOPPING)
LINES = 300


def document(container: Container) -> dict[str, Any]:
    """What the engine says of it now, in the driver's vocabulary: the same for every kind of runtime. Or why it can't."""
    try:
        sandbox = driver_for(container).inspect(container.name)
    except DriverError as error:
        return {"unavailable": str(error)}
    return {
        name: value
        for name, value in dataclasses.asdict(sandbox).items()
        if name not in ("isolation", "limits_enforced")
    }


def figures(container: Container) -> dict[str, float | int] | None:
    """Of this moment; None where there are none now."""
    if container.status not in UP:
        return None
    try:
        return dataclasses.asdict(driver_for(container).stats(container.name))
    except DriverError:
        return None


def log(container: Container) -> str:
    """The last LINES lines; of one that is gone, what was kept."""
    if container.status not in UP:
        return container.log_tail
    try:
        return driver_for(container).logs(container.name, tail=LINES)
    except DriverError as error:
        return container.log_tail or f"Not available: {error}"
