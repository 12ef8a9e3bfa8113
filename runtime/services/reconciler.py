"""Makes rows, engines and disk agree, from any state. Level-triggered: what one pass did not finish, the next one does."""

from __future__ import annotations

import structlog
from django.db import transaction
from django.db.models.functions import Now

from runtime.drivers.base import Driver
from runtime.drivers.errors import DriverError
from runtime.drivers.types import SandboxState
from runtime.models import Container, ContainerStatus, Node
from runtime.services import containers
from runtime.services.nodes import driver_of, kinds_here
from runtime.signals import container_died

log = structlog.get_logger(__name__)
UP = (ContainerStatus.RUNNING, ContainerStatus.WARM)
LISTENS = 3


def reconcile(node: Node) -> None:
    """One pass over a node that answers. Raises DriverError where its own engine does not after all."""
    for kind in kinds_here(node):
        try:
            _reconcile(node, kind, driver_of(node, kind))
        except DriverError as error:
            if kind == node.runtime_type:
                raise
            log.warning("former_runtime_unreachable", node=node.name, runtime=kind, error=str(error))


def _reconcile(node: Node, kind: str, driver: Driver) -> None:
    """The dead are told of, what nobody owns is removed."""
    # The engine is asked first: a row that is made in between can't be missing from an older answer.
    rows = Container.objects.filter(node=node, runtime_type=kind)
    known_before = set(rows.exclude(status=ContainerStatus.REMOVED).values_list("name", flat=True))
    sandboxes = {sandbox.name: sandbox for sandbox in driver.list()}
    for container in rows.filter(status__in=UP).select_related("node"):
        sandbox = sandboxes.get(container.name)
        if container.name in known_before and (sandbox is None or sandbox.state == SandboxState.EXITED):
            containers.look(container)
    statuses = dict(Container.objects.filter(name__in=sandboxes).values_list("name", "status"))
    for name in sandboxes:
        if statuses.get(name, ContainerStatus.REMOVED) == ContainerStatus.REMOVED:
            _remove_orphan(node, driver, name)


def _remove_orphan(node: Node, driver: Driver, name: str) -> None:
    log.warning("orphan_removed", sandbox=name, node=node.name)
    try:
        driver.remove(name)
    except DriverError as error:
        # One that does not go must not keep the others.
        log.warning("orphan_stays", sandbox=name, node=node.name, error=str(error))


def lose_silent(node: Node) -> None:
    """Of a node whose engine is gone: what does not answer any more is lost. Sandboxes that do answer outlive their engine.

    One that is dead refuses at once; one that is only busy gets half a second a time to answer.
    """
    for container in Container.objects.filter(node=node, status__in=UP):
        if any(containers.answers(container) for _ in range(LISTENS)):
            continue
        with transaction.atomic():
            if container.move(ContainerStatus.LOST, detail=f"The node {node.pk} is gone", ended_at=Now()):
                container_died.send(sender=Container, container=container, oom_killed=False, node_lost=True)


def remove_everything(spared: frozenset[str] = frozenset()) -> None:
    """The last sweep of a service that stops: no sandbox of this installation stays on any node that answers, but the `spared`."""
    for node in Node.objects.all():
        left = Container.objects.filter(node=node).exclude(status=ContainerStatus.REMOVED).exclude(name__in=spared)
        rows = left.select_related("node")
        for kind in kinds_here(node):
            try:
                for container in rows.filter(runtime_type=kind):
                    containers.remove(container)
                driver = driver_of(node, kind)
                for sandbox in driver.list():
                    if sandbox.name not in spared:
                        driver.remove(sandbox.name)
            except DriverError as error:
                log.warning("not_removed", node=node.name, runtime=kind, error=str(error))
