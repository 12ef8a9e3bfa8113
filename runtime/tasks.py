"""Tasks of the runtime: ids in, nothing out, safe to repeat."""

from __future__ import annotations

import structlog

from runtime.drivers.errors import DriverError
from runtime.models import Container, ContainerStatus, Node
from runtime.services import containers, nodes, pool, reconciler, smoke
from runtime.services.exclusive import only_one
from sandbox_platform import processes
from sandbox_platform.queue import Queue, enqueue
from templates_app import building
from templates_app.models import Template

log = structlog.get_logger(__name__)


def reconcile() -> None:
    """Probe each node, and reconcile those that answer: one that is switched off still has sandboxes.

    One pass at a time: behind an engine that hangs they must not pile up.
    """
    with only_one("reconcile") as mine:
        if mine:
            _reconcile()


def _reconcile() -> None:
    for node in Node.objects.order_by("-enabled", "name"):
        try:
            _look_after(node)
        except DriverError as error:
            log.warning("reconcile_failed", node=node.name, error=str(error))
        except Exception:
            # A fault with one node must not keep the others.
            log.exception("reconcile_broke", node=node.name)


def _look_after(node: Node) -> None:
    if nodes.probe(node):
        reconciler.reconcile(node)
        pool.balance(node)
    elif not node.ready:
        reconciler.lose_silent(node)


def refill(node_name: str, template_id: str) -> None:
    """Make one container for the warm pool, and order the next while it is short."""
    node = Node.objects.schedulable().filter(pk=node_name).first()
    template = Template.objects.visible().filter(pk=template_id).first()
    if node and template and pool.refill(node, template):
        enqueue(Queue.LIFECYCLE, "runtime.tasks.refill", node_name, template_id)


def look(name: str) -> None:
    """See whether one container is still alive."""
    container = Container.objects.filter(pk=name, status=ContainerStatus.RUNNING).select_related("node").first()
    if container:
        try:
            containers.look(container)
        except DriverError as error:
            log.warning("look_failed", container=name, error=str(error))


def remove(name: str) -> None:
    """Remove one container now, whoever uses it."""
    container = Container.objects.filter(pk=name).exclude(status=ContainerStatus.REMOVED).select_related("node").first()
    if container:
        try:
            containers.remove(container)
        except DriverError as error:
            log.warning("remove_failed", container=name, error=str(error))  # the reconciler comes again


def purge() -> None:
    """Each hour: records of containers and processes whose time is over."""
    containers.forget_removed()
    processes.forget_dead()


def build_template(build_id: int) -> None:
    """Make one build of a template's version and try it in a sandbox."""
    building.run(build_id, smoke.test)
