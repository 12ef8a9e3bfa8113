"""Tasks of the runtime: ids in, nothing out, safe to repeat."""

from __future__ import annotations

import structlog

from runtime.drivers.errors import DriverError
from runtime.models import Container, ContainerStatus, Node
from runtime.services import containers, nodes

log = structlog.get_logger(__name__)


def reconcile() -> None:
    """Probe each enabled node, and reconcile those that answer."""
    for node in Node.objects.filter(enabled=True):
        if not nodes.probe(node):
            continue
        try:
            containers.reconcile(node)
        except DriverError as error:
            log.warning("reconcile_failed", node=node.name, error=str(error))


def look(name: str) -> None:
    """See whether one container is still alive."""
    container = Container.objects.filter(pk=name, status=ContainerStatus.RUNNING).select_related("node").first()
    if container:
        try:
            containers.look(container)
        except DriverError as error:
            log.warning("look_failed", container=name, error=str(error))
