"""The warm pool: sandboxes that are up before anybody asks for them.

A claim is one conditional UPDATE in the transaction that creates the session; no engine is asked. The pool is kept in balance behind
it: `balance` says what is missing or stale, `refill` makes one. A container serves one session, ever.
"""

from __future__ import annotations

import datetime as dt
import time

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from runtime.drivers.errors import DriverError
from runtime.models import Container, ContainerStatus, Node
from runtime.services import containers, making
from runtime.services.exclusive import only_one
from sandbox_platform import metrics, processes
from sandbox_platform.models import Process
from sandbox_platform.queue import Queue, enqueue
from templates_app import services as templates
from templates_app.models import Template

log = structlog.get_logger(__name__)
# Runs that may overlap in any sandbox; a session's own limit is kept by its row.
SLOTS = 16
# OCI runtimes whose sandboxes can be given other limits while they run.
CHANGEABLE = ("runc",)
# Seconds: between two creates of a burst, and that a refill waits for the end of one.
QUIET, LONGEST_WAIT = 0.4, 3.0
# Seconds between two doorbells for one pool.
RING_AGAIN = 0.2
_rung: dict[tuple[str, str], float] = {}


def claim(
    node: Node, template: Template, image: str, amounts: dict[str, str], egress: bool = False
) -> Container | None:
    """Take a warm container: it is `running` then. None where there is none. Call inside a transaction.

    One of just these amounts where there is one, else one that `containers.fit` can give them to: see `fits`. `egress`: it has a way to the
    proxy, or has none; which hosts are allowed is a matter of the session that gets it.
    """
    began = time.perf_counter()
    if not template.warm_pool_size:
        return None
    stock = Container.objects.filter(
        node=node, template=template, image=image, status=ContainerStatus.WARM, egress=egress,
        start_hash=containers.start_hash(template, SLOTS),
    )  # fmt: skip
    container, outcome = _take_living(stock.filter(**amounts)), "hit"
    if container is None and template.oci_runtime in CHANGEABLE:
        # A workspace in memory was cut from the memory limit: that one can't be changed later.
        near = stock.filter(disk=amounts["disk"], limits_enforced__disk="ext4")
        container, outcome = _take_living(near), "fit"
    metrics.pool_claims.labels(template.pk, outcome if container else "miss").inc()
    if container is not None:
        metrics.pool_claim_seconds.observe(time.perf_counter() - began)
        _ring(node, template)
    return container


def _ring(node: Node, template: Template) -> None:
    """Order a refill. One doorbell is enough for the claims of a burst: each refill orders the next, and `balance` looks after both."""
    now, key = time.monotonic(), (node.pk, template.pk)
    if now - _rung.get(key, -RING_AGAIN) >= RING_AGAIN:
        _rung[key] = now
        enqueue(Queue.LIFECYCLE, "runtime.tasks.refill", *key)


def fits(container: Container, cpu: str, memory: str) -> bool:
    """Whether it has these limits already."""
    return (container.cpu, container.memory) == (cpu, memory)


def _take_living(stock: QuerySet) -> Container | None:
    while (container := _take(stock)) is not None:
        if containers.answers(container):
            return container
        log.warning("warm_container_dead", container=container.pk)
        container.move(ContainerStatus.LOST, detail="It did not answer when it was claimed")
    return None


def _take(stock: QuerySet) -> Container | None:
    rows = stock.order_by("created_at").select_related("node")
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True, of=("self",))
    container = rows.first()
    return container if container is not None and container.move(ContainerStatus.RUNNING) else None


def balance(node: Node) -> None:
    """Order what is missing where the node is on, remove what is stale, surplus or dead. Raises DriverError."""
    for container in _unfit(node):
        log.info("pool_container_retired", container=container.pk, status=container.status)
        containers.remove(container)
    if not node.enabled:
        return
    for template in Template.objects.visible().filter(deprecated_at=None, warm_pool_size__gt=0):
        if _stock(node, template).count() < template.warm_pool_size:
            enqueue(Queue.LIFECYCLE, "runtime.tasks.refill", node.pk, template.pk)


def refill(node: Node, template: Template) -> bool:
    """Make one container for the pool if it is short of any. False if not, or if none could be made now.

    While a burst of sessions empties the pool, one caller waits for its end and the others leave: starting a container takes a
    core for a third of a second, which those need who are being served.
    """
    image = templates.image_for(template, node.runtime_type)
    if not image.ref or template.deprecated_at or template.deleted_at:
        return False
    if _in_demand(node, template):
        with only_one(f"refill.{node.pk}.{template.pk}") as mine:
            if not mine:
                return False
            deadline = time.monotonic() + LONGEST_WAIT
            while _in_demand(node, template) and time.monotonic() < deadline:
                time.sleep(0.05)
    container = Container(
        node=node, template=template, runtime_type=node.runtime_type, image=image.ref, maker=processes.own_id(), slots=SLOTS,
        egress=bool(template.hosts), start_hash=containers.start_hash(template, SLOTS), **template.default_resources,
    )  # fmt: skip
    try:
        return _make(container)
    except Exception:
        # What lives on with a maker that is not at it would count as stock for ever. `balance` removes what there is of it.
        making.let_go(Q(pk=container.pk), ContainerStatus.STOPPING)
        raise


def _make(container: Container) -> bool:
    """Make it if the pool is short of one. False if not, or if it can't be made now."""
    with transaction.atomic():
        # Two refills at once must not both find the last gap.
        Node.objects.select_for_update().get(pk=container.node_id)
        if _stock(container.node, container.template).count() >= container.template.warm_pool_size:
            return False
        container.save(force_insert=True)
    try:
        containers.make(container, settings.SANDBOX_BOOT_TIMEOUT)
    except DriverError as error:
        log.warning("refill_failed", template=container.template_id, error=str(error))
        container.move(ContainerStatus.REMOVED, maker=None, detail=str(error)[:2000])
        return False
    return container.move(ContainerStatus.WARM, maker=None)


def _in_demand(node: Node, template: Template) -> bool:
    """Whether sessions come faster than one in QUIET seconds and are served from the pool. Once that is empty they start cold anyway."""
    lately = node.sessions.filter(template=template, created_at__gt=Now() - dt.timedelta(seconds=QUIET))  # type: ignore[attr-defined]
    return lately.count() > 1 and _stock(node, template).filter(status=ContainerStatus.WARM).exists()


def _stock(node: Node, template: Template) -> QuerySet:
    """What is warm, or is being made for the pool."""
    image = templates.image_for(template, node.runtime_type).ref
    return Container.objects.filter(
        node=node,
        template=template,
        image=image,
        egress=bool(template.hosts),
        start_hash=containers.start_hash(template, SLOTS),
        session=None,
        status__in=(ContainerStatus.WARM, ContainerStatus.CREATING),
    )


def _unfit(node: Node) -> list[Container]:
    """Without a session: dead ones, half-made ones of dead makers, those of an older image or start, other resources or network, too many.

    One that runs without a session has lost it with its project: a claim and its session are one transaction.
    """
    idle = (
        Container.objects.filter(node=node, session=None)
        .exclude(status=ContainerStatus.REMOVED)
        .select_related("node", "template")
    )
    living = Process.objects.filter(dead_at=None).values("pk")
    dead = Q(status__in=(ContainerStatus.EXITED, ContainerStatus.LOST, ContainerStatus.STOPPING))
    orphaned = Q(status=ContainerStatus.CREATING) & ~Q(maker__in=living)
    deserted = Q(status=ContainerStatus.RUNNING)
    unfit = list(idle.filter(dead | orphaned | deserted))
    kept: dict[str, int] = {}
    for container in idle.filter(status=ContainerStatus.WARM).order_by("created_at"):
        template = container.template
        wanted = 0 if template.deprecated_at or template.deleted_at else template.warm_pool_size
        same = (
            container.egress == bool(template.hosts)
            and container.start_hash == containers.start_hash(template, SLOTS)
            and container.image == templates.image_for(template, node.runtime_type).ref
            and template.default_resources
            == {
                "cpu": container.cpu,
                "memory": container.memory,
                "disk": container.disk,
            }
        )
        kept[template.pk] = kept.get(template.pk, 0) + same
        # One conditional UPDATE decides against a claim at the same moment.
        if (not same or kept[template.pk] > wanted) and container.move(ContainerStatus.STOPPING):
            unfit.append(container)
    return unfit
