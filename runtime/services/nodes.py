"""Nodes: registering the local one, probing, and the driver of each."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import structlog
from django.conf import settings
from django.db.models.functions import Now

from runtime.drivers import registry
from runtime.drivers.base import Driver
from runtime.drivers.errors import DriverError
from runtime.drivers.state import StateFolder
from runtime.models import Container, ContainerStatus, Node, RuntimeType
from runtime.services import disk

log = structlog.get_logger(__name__)

# Failed probes in a row after which a node takes no new sessions.
PROBES = 3
_drivers: dict[tuple[int, str, str, str], Driver] = {}
_lock = threading.Lock()


def register(runtime_type: str, url: str = "") -> Node:
    """The row of this host's engine, probed. Other local nodes of another kind are switched off: one engine a host and name."""
    node, _ = Node.objects.update_or_create(
        name=settings.NODE_NAME,
        defaults={
            "runtime_type": runtime_type,
            "url": url,
            "cpu_millis": (os.cpu_count() or 1) * 1000,
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
    )
    probe(node)
    return node


def driver_of(node: Node, runtime_type: str = "") -> Driver:
    """The driver of a node, or of another kind on the same host: one per process, safe after a fork."""
    kind = runtime_type or node.runtime_type
    key = (os.getpid(), node.name, kind, node.url if kind == node.runtime_type else "")
    with _lock:
        if key not in _drivers:
            _drivers[key] = registry.load(
                kind,
                instance=settings.INSTANCE_ID,
                state_dir=Path(settings.STATE_DIR),
                url=key[3] or None,
            )
        return _drivers[key]


def driver_for(container: Container) -> Driver:
    """The driver that made it. The node may have been given another kind of engine since."""
    return driver_of(container.node, container.runtime_type)


def kinds_here(node: Node) -> list[str]:
    """The node's own kind of runtime, and those it had before of which something is left."""
    kinds = set(
        Container.objects.filter(node=node)
        .exclude(status=ContainerStatus.REMOVED)
        .values_list("runtime_type", flat=True)
    )
    if node.pk == settings.NODE_NAME:
        owners = StateFolder(Path(settings.STATE_DIR), "").owners()
        kinds |= {owner.split("/")[0] for owner in owners if owner.endswith(f"/{settings.INSTANCE_ID}")}
    return [node.runtime_type, *sorted(kinds & set(RuntimeType.values) - {node.runtime_type})]


def probe(node: Node) -> bool:
    """Ask the engine whether sandboxes can be made now, and keep its answer, and the size of the disk, on the row. True if it answers.

    A node that was ready takes new sessions until it has failed PROBES times in a row.
    """
    try:
        driver_of(node).check()
        answers, failed, detail = True, 0, ""
    except DriverError as error:
        answers, failed, detail = False, min(node.failed_probes + 1, 1000), str(error)
    ready = answers or (node.ready and failed < PROBES)
    if ready != node.ready:
        log.warning("node_state", node=node.name, ready=ready, detail=detail)
    there = disk.size()  # a file system may have been mounted or grown
    Node.objects.filter(pk=node.pk).update(
        ready=ready, failed_probes=failed, detail=detail, disk_bytes=there, probed_at=Now()
    )
    node.ready, node.failed_probes, node.detail = ready, failed, detail
    return answers
