"""Containers: making one from its row, watching it, removing it."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from runtime.drivers.errors import DriverError, ExecutorError, SandboxNotFound
from runtime.drivers.executor_client import ExecutorClient
from runtime.drivers.types import Resources, Sandbox, SandboxSpec, SandboxState
from runtime.models import Container, ContainerStatus
from runtime.services.nodes import driver_for
from runtime.signals import container_died
from sandbox_platform.retention import delete_in_batches
from templates_app import resources
from templates_app.models import Template

log = structlog.get_logger(__name__)
LOG_TAIL_LINES = 200


def container_resources(container: Container) -> Resources:
    """Its limits as the drivers count them."""
    return Resources(
        cpu=resources.cpu_millis(container.cpu) / 1000,
        memory=resources.size(container.memory),
        disk=resources.size(container.disk),
    )


def _started_with(template: Template) -> dict[str, Any]:
    """What a template says of a sandbox's start beside its image, limits and network."""
    return {"oci_runtime": template.oci_runtime, "preload": tuple(template.preload), "figures": template.figures}


def start_hash(template: Template, slots: int) -> str:
    """64 hex digits that change with it: of two sandboxes with the same, one can stand for the other."""
    ingredients = {**_started_with(template), "slots": slots}
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def spec_of(container: Container, boot_timeout: float) -> SandboxSpec:
    """What the driver is asked for. `boot_timeout` in seconds."""
    template = container.version.as_template() if container.version else container.template
    return SandboxSpec(
        name=container.name,
        image=container.image,
        resources=container_resources(container),
        slots=container.slots,
        labels={"sbx.template": container.template_id},
        egress=container.egress,
        boot_timeout=boot_timeout,
        **_started_with(template),
    )


def make(container: Container, boot_timeout: float) -> None:
    """Have the sandbox made and fill in the row, which stays `creating`: the caller says what it is for. Raises DriverError."""
    sandbox = driver_for(container).create(spec_of(container, boot_timeout))
    found = {
        "ref": sandbox.ref,
        "socket": str(sandbox.socket),
        "isolation": sandbox.isolation,
        "limits_enforced": sandbox.limits_enforced,
    }
    Container.objects.filter(pk=container.pk).update(started_at=Now(), **found)
    for name, value in found.items():
        setattr(container, name, value)


def fit(container: Container, cpu: str, memory: str) -> None:
    """Give a running container other limits, and its row with them. Safe to repeat. Raises DriverError."""
    asked = replace(container_resources(container), cpu=resources.cpu_millis(cpu) / 1000, memory=resources.size(memory))
    driver_for(container).update(container.name, asked)
    Container.objects.filter(pk=container.pk).update(cpu=cpu, memory=memory)
    container.cpu, container.memory = cpu, memory


def remove(container: Container) -> None:
    """Free all that the sandbox holds; keep the end of its log. Safe to repeat. Raises DriverError where the engine can't now."""
    Container.objects.filter(pk=container.pk).move(ContainerStatus.STOPPING)
    driver = driver_for(container)
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
        sandbox = driver_for(container).inspect(container.name)
    except SandboxNotFound:
        found_dead(container, None)
        return
    if sandbox.state == SandboxState.EXITED:
        found_dead(container, sandbox)


def members(container: Container) -> tuple[str, ...]:
    """What the cgroup of its executor is called: whoever else sits at its socket is refused."""
    return tuple(filter(None, (container.ref, container.name)))


def answers(container: Container, seconds: float = 0.5) -> bool:
    """Whether its executor does, within `seconds`. No engine is asked."""
    try:
        return ExecutorClient(Path(container.socket), members=members(container)).health(seconds).state == "ready"
    except ExecutorError:
        return False


def forget_removed() -> None:
    """Rows of removed containers are kept for CONTAINER_RETENTION seconds, and as long as there is a session that had them."""
    over = Now() - dt.timedelta(seconds=settings.CONTAINER_RETENTION)
    gone = Container.objects.filter(status=ContainerStatus.REMOVED, session=None)
    delete_in_batches(gone.filter(Q(ended_at__lt=over) | Q(ended_at=None, created_at__lt=over)))


def found_dead(container: Container, sandbox: Sandbox | None) -> None:
    """Tell the row and whoever uses it, once. `sandbox` is what is left of it, None for nothing."""
    status = ContainerStatus.EXITED if sandbox else ContainerStatus.LOST
    oom = bool(sandbox and sandbox.oom_killed)
    detail = (
        "Killed for want of memory"
        if oom
        else f"Exit code {sandbox.exit_code}"
        if sandbox
        else "The engine does not know it any more"
    )
    with transaction.atomic():  # a crash in between must not leave a session with a dead container
        if container.move(status, detail=detail, ended_at=Now()):
            log.warning("container_died", container=container.name, detail=detail)
            container_died.send(sender=Container, container=container, oom_killed=oom, node_lost=False)
