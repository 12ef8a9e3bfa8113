"""Nodes: registering the local one, probing, and the driver of each."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import structlog
from django.conf import settings
from django.db.models import Max
from django.db.models.functions import Now

from runtime.drivers import registry
from runtime.drivers.base import Driver
from runtime.drivers.errors import DriverError
from runtime.models import Node

log = structlog.get_logger(__name__)

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


def driver_of(node: Node) -> Driver:
    """The driver of a node: one per process and node, safe after a fork."""
    key = (os.getpid(), node.name, node.runtime_type, node.url)
    with _lock:
        if key not in _drivers:
            _drivers[key] = registry.load(
                node.runtime_type,
                instance=settings.INSTANCE_ID,
                state_dir=Path(settings.STATE_DIR),
                url=node.url or None,
            )
        return _drivers[key]


def probe(node: Node) -> bool:
    """Ask the engine whether sandboxes can be made now, and keep its answer on the row."""
    try:
        driver_of(node).check()
        ready, detail = True, ""
    except DriverError as error:
        ready, detail = False, str(error)
    if ready != node.ready:
        log.warning("node_state", node=node.name, ready=ready, detail=detail)
    Node.objects.filter(pk=node.pk).update(ready=ready, detail=detail, probed_at=Now())
    node.ready, node.detail = ready, detail
    return ready


def pick(runtime_type: str) -> Node | None:
    """A node for a new sandbox, or None where none takes any now."""
    return Node.objects.schedulable().filter(runtime_type=runtime_type).first()


def default_runtime() -> str | None:
    """The kind of runtime that new sessions get, whether its engine answers now or not. None where no node is known."""
    node = Node.objects.filter(enabled=True).order_by("-ready", "name").first()
    return node.runtime_type if node else None


def largest() -> tuple[int, int]:
    """What the largest nodes have: thousandths of a core, bytes of memory."""
    most = Node.objects.filter(enabled=True).aggregate(cpu=Max("cpu_millis"), memory=Max("memory_bytes"))
    return most["cpu"] or 0, most["memory"] or 0
