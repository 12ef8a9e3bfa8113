"""Containers: making one from its row, watching it, removing it."""

from __future__ import annotations

from pathlib import Path

import structlog
from django.db.models.functions import Now

from runtime.drivers.errors import DriverError, ExecutorError, SandboxNotFound
from runtime.drivers.executor_client import ExecutorClient
from runtime.drivers.types import Resources, Sandbox, SandboxSpec, SandboxState
from runtime.models import Container, ContainerStatus, Node
from runtime.services.nodes import driver_of
from runtime.signals import container_died
from templates_app import resources

log = structlog.get_logger(__name__)
LOG_TAIL_LINES = 200


def spec_of(container: Container, boot_timeout: float) -> SandboxSpec:
    """What the driver is asked for. `boot_timeout` in seconds."""
    template = container.version.as_template() if container.version else container.template
    return SandboxSpec(
        name=container.name,
        image=container.image,
        resources=Resources(
            cpu=resources.cpu_millis(container.cpu) / 1000,
            memory=resources.size(container.memory),
            disk=resources.size(container.disk),
        ),
        slots=container.slots,
        preload=tuple(template.preload),
        labels={"sbx.template": container.template_id},
        oci_runtime=template.oci_runtime,
        boot_timeout=boot_timeout,
    )


def make(container: Container, boot_timeout: float) -> None:
    """Have the sandbox made and fill in the row, which stays `creating`: the caller says what it is for. Raises DriverError."""
    sandbox = driver_of(container.node).create(spec_of(container, boot_timeout))
    found = {
        "ref": sandbox.ref,
        "socket": str(sandbox.socket),
        "isolation": sandbox.isolation,
        "limits_enforced": sandbox.limits_enforced,
    }
    Container.objects.filter(pk=container.pk).update(started_at=Now(), **found)
    for name, value in found.items():
        setattr(container, name, value)


def remove(container: Container) -> None:
    """Free all that the sandbox holds; keep the end of its log. Safe to repeat. Raises DriverError where the engine can't now."""
    Container.objects.filter(pk=container.pk).move(ContainerStatus.STOPPING)
    driver = driver_of(container.node)
    if not container.log_tail:
        try:
            tail = driver.logs(container.name, tail=LOG_TAIL_LINES).replace("\0", "")
        except DriverError:
            tail = ""
        Container.objects.filter(pk=container.pk).update(log_tail=tail[-65536:])
    driver.remove(container.name)
    Container.objects.filter(pk=container.pk).move(ContainerStatus.REMOVED, ended_at=Now())


def look(container: Container) -> None:
    """Compare one container that should run with what the engine says of it now."""
    try:
        sandbox = driver_of(container.node).inspect(container.name)
    except SandboxNotFound:
        _found_dead(container, None)
        return
    if sandbox.state == SandboxState.EXITED:
        _found_dead(container, sandbox)


def reconcile(node: Node) -> None:
    """Make rows and engine agree, from any state: the dead are told of, what nobody owns is removed. Raises DriverError."""
    # The engine is asked first: a row that is made in between can't be missing from an older answer.
    known_before = set(
        Container.objects.filter(node=node).exclude(status=ContainerStatus.REMOVED).values_list("name", flat=True)
    )
    sandboxes = {sandbox.name: sandbox for sandbox in driver_of(node).list()}
    for container in Container.objects.filter(node=node, status__in=[ContainerStatus.RUNNING, ContainerStatus.WARM]):
        sandbox = sandboxes.get(container.name)
        if container.name in known_before and (sandbox is None or sandbox.state == SandboxState.EXITED):
            look(container)
    rows = dict(Container.objects.filter(name__in=sandboxes).values_list("name", "status"))
    for name in sandboxes:
        if rows.get(name, ContainerStatus.REMOVED) == ContainerStatus.REMOVED:
            log.warning("orphan_removed", sandbox=name, node=node.name)
            driver_of(node).remove(name)


def answers(container: Container, seconds: float = 0.5) -> bool:
    """Whether its executor does, within `seconds`. No engine is asked."""
    try:
        return ExecutorClient(Path(container.socket)).health(seconds).state == "ready"
    except ExecutorError:
        return False


def lose_silent(node: Node) -> None:
    """Of a node whose engine is gone: what does not answer any more is lost. Sandboxes that do answer outlive their engine."""
    for container in Container.objects.filter(node=node, status__in=(ContainerStatus.RUNNING, ContainerStatus.WARM)):
        if not answers(container) and container.move(
            ContainerStatus.LOST, detail=f"The node {node.pk} is gone", ended_at=Now()
        ):
            container_died.send(sender=Container, container=container, oom_killed=False, node_lost=True)


def remove_everything() -> None:
    """The last sweep of a service that stops: no sandbox of this installation stays on any node that answers."""
    for node in Node.objects.all():
        try:
            for container in Container.objects.filter(node=node).exclude(status=ContainerStatus.REMOVED).select_related("node"):
                remove(container)
            driver = driver_of(node)
            for sandbox in driver.list():
                driver.remove(sandbox.name)
        except DriverError as error:
            log.warning("not_removed", node=node.name, error=str(error))


def _found_dead(container: Container, sandbox: Sandbox | None) -> None:
    status = ContainerStatus.EXITED if sandbox else ContainerStatus.LOST
    oom = bool(sandbox and sandbox.oom_killed)
    detail = (
        "Killed for want of memory"
        if oom
        else f"Exit code {sandbox.exit_code}"
        if sandbox
        else "The engine does not know it any more"
    )
    if container.move(status, detail=detail, ended_at=Now()):
        log.warning("container_died", container=container.name, detail=detail)
        container_died.send(sender=Container, container=container, oom_killed=oom, node_lost=False)
