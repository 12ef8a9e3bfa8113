"""From `creating` to `running`: one sandbox per session, whoever asks and however often."""

from __future__ import annotations

import datetime as dt

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from runtime.drivers.errors import DiskFull, DriverError, EngineUnavailable, ImageUnavailable
from runtime.models import Container, ContainerStatus
from runtime.services import containers, making, pool
from sandbox_platform import metrics, processes, wakeups
from sandbox_platform.errors import OUTAGE
from sandbox_platform.models import Process
from sandbox_platform.queue import Queue, depth, enqueue
from sessions_app.models import Owed, Reason, Session, SessionStatus, StorageDebt
from sessions_app.services import forks, lifecycle
from templates_app import services as templates
from templates_app import versions
from templates_app.models import ImageStatus

log = structlog.get_logger(__name__)
# Seconds in `creating`, apart from the time that the template's own preparation takes, after which a session has failed.
START_DEADLINE = 60.0
# What a failed start is told as, where it is not START_FAILED.
REASONS = ((ImageUnavailable, Reason.IMAGE_UNAVAILABLE), (DiskFull, Reason.DISK_FULL))


def provision(session_id: str) -> None:
    """Make the session's sandbox and set it running, unless somebody else does. Safe to repeat."""
    try:
        _provision(session_id)
    except Exception as error:
        # Wherever it broke: a session must not stay in `creating` with a maker that lives and is not at it.
        making.let_go(Q(session=session_id))
        if isinstance(error, OUTAGE):
            raise  # told by the ticker to try again once it is back
        # A fault of ours is tried again until the deadline, like a passing one of the engine.
        log.exception("provision_broke", session=session_id)
        session = Session.objects.select_related("template", "container").get(pk=session_id)
        _give_up_or_wait(session, session.container, EngineUnavailable("an internal fault"))


def _provision(session_id: str) -> None:
    related = ("template", "version", "node", "container__node", "container__template", "container__version")
    session = Session.objects.select_related(*related).filter(pk=session_id, status=SessionStatus.CREATING).first()
    if session is None:
        return
    if session.container is not None and session.container.status == ContainerStatus.RUNNING:
        _fit(session, session.container)
        return
    ref = _image(session)
    if not ref:
        return
    container = _own_container(session, ref)
    if container is None:
        return
    try:
        containers.make(container, settings.SANDBOX_BOOT_TIMEOUT)
    except DriverError as error:
        _give_up_or_wait(session, container, error)
        return
    if session.workspace_from_id is None or _fill(session, container):
        _start(session, container)


def _fill(session: Session, container: Container) -> bool:
    """The files of another session, before anybody may use this one. False where that failed, which the session then says."""
    session.container = container
    try:
        forks.fill(session)
    except forks.CannotFill as error:
        Container.objects.filter(pk=container.pk).update(maker=None)
        if error.passing and not _overdue(session):
            _say(session, f"{error}; it is tried again")
        else:
            lifecycle.end(session.pk, error.reason, str(error))
        return False
    return True


def _image(session: Session) -> str:
    """The reference of the image that it starts from; empty where there is none (yet), which the session then says."""
    if session.version:
        build = versions.good_builds(session.version).get(session.runtime_type)
        if build is None:
            lifecycle.end(
                session.pk, Reason.IMAGE_UNAVAILABLE, f"No build of {session.version} is ready for its runtime"
            )
        return build.ref if build else ""
    image = templates.image_for(session.template, session.runtime_type)
    if image.status == ImageStatus.FAILED and not image.ref:
        detail = f"The template could not be prepared: {image.detail}"
        lifecycle.end(session.pk, Reason.IMAGE_UNAVAILABLE, detail)
    elif not image.ref:
        _say(session, f"Waiting for the template: {image.detail or 'it is being prepared'}")
    return image.ref


def _own_container(session: Session, image: str) -> Container | None:
    """The row that this process is to make the sandbox for; None where another process is at it or no node takes it now."""
    mine = processes.own_id()
    if session.container is None:
        node = session.node
        # One failed probe is enough to wait: an engine that hangs must not take every worker with it.
        if node is None or not (node.enabled and node.ready) or node.failed_probes:
            _wait_for_node(session)
            return None
        template = session.version.as_template() if session.version else session.template
        with transaction.atomic():
            container = Container.objects.create(
                node=node, template=session.template, version=session.version, runtime_type=node.runtime_type, image=image, maker=mine,
                cpu=session.cpu, memory=session.memory, disk=session.disk, slots=pool.SLOTS,
                egress=bool(session.allowed_hosts), start_hash=containers.start_hash(template, pool.SLOTS),
            )  # fmt: skip
            if not Session.objects.filter(pk=session.pk, status=SessionStatus.CREATING, container=None).update(
                container=container
            ):
                transaction.set_rollback(True)
                return None
        return container
    container = session.container
    if (
        container.maker is not None
        and Process.objects.filter(pk=container.maker, dead_at=None).exclude(pk=mine).exists()
    ):
        return None
    taken = Container.objects.filter(pk=container.pk, maker=container.maker, status=ContainerStatus.CREATING)
    return container if taken.update(maker=mine) else None


def _fit(session: Session, container: Container) -> None:
    """A warm container was claimed that has other limits. Where it can't be given ours, a cold start it is."""
    try:
        with metrics.pool_fit_seconds.time():
            containers.fit(container, session.cpu, session.memory)
    except DriverError as error:
        log.warning("fit_failed", session=session.pk, container=container.pk, error=str(error))
        with transaction.atomic():
            mine = Session.objects.filter(pk=session.pk, status=SessionStatus.CREATING, container=container)
            if mine.update(container=None):
                container.move(ContainerStatus.STOPPING, detail=str(error)[:2000])
                enqueue(Queue.LIFECYCLE, "runtime.tasks.remove", container.pk)
                enqueue(Queue.LIFECYCLE, "sessions_app.tasks.provision", session.pk)
        return
    _start(session, container)


def _start(session: Session, container: Container) -> None:
    with transaction.atomic():
        Container.objects.filter(pk=container.pk).move(ContainerStatus.RUNNING, maker=None)
        if not lifecycle.start(session.pk):  # it ended while its sandbox was being made
            enqueue(Queue.LIFECYCLE, "sessions_app.tasks.release", session.pk)


def _give_up_or_wait(session: Session, container: Container | None, error: DriverError) -> None:
    """A passing fault is tried again by the ticker until the deadline; any other ends the session."""
    log.warning("provision_failed", session=session.pk, error=str(error), transient=error.transient)
    if container is not None:
        Container.objects.filter(pk=container.pk).update(
            maker=None, detail=str(error)[:2000], log_tail=getattr(error, "log", "")[-4096:]
        )
    if error.transient and not _overdue(session):
        _say(session, "The runtime is not available at the moment; the start is tried again")
        return
    if container is not None and isinstance(error, ImageUnavailable):
        templates.image_missing(session.template, session.runtime_type, container.image)
    reason = next((reason for kind, reason in REASONS if isinstance(error, kind)), Reason.START_FAILED)
    if not lifecycle.end(session.pk, reason, _in_words(error), Q(status=SessionStatus.CREATING)):
        enqueue(Queue.LIFECYCLE, "sessions_app.tasks.release", session.pk)


def _wait_for_node(session: Session) -> None:
    if _overdue(session):
        lifecycle.end(session.pk, Reason.START_FAILED, "No node was ready to run the sandbox within the start deadline")
    else:
        _say(session, "Waiting for a node that is ready")


def _overdue(session: Session) -> bool:
    limit = Now() - dt.timedelta(seconds=START_DEADLINE)
    return Session.objects.filter(pk=session.pk, created_at__lte=limit).exists()


def _in_words(error: DriverError) -> str:
    """For the tenant: what happened, without the host's paths or the engine's addresses."""
    kind = type(error).__name__
    words = {
        "EngineUnavailable": "The container engine did not answer within the start deadline",
        "ImageUnavailable": "The template's image is not available on the node",
        "DiskFull": "The node's disk is full",
        "NoCapacity": "The node had no room for the sandbox",
        "AttestationFailed": "The sandbox that came up did not match its specification and was removed",
        "BootFailed": "The sandbox started, but its executor did not become ready",
        "RuntimeUnsupported": "The node can't run this template's runtime",
    }
    return words.get(kind, "The sandbox could not be started")


def _say(session: Session, detail: str) -> None:
    changed = Session.objects.filter(~Q(status_detail=detail), pk=session.pk, status=SessionStatus.CREATING)
    if changed.update(status_detail=detail[:2000]):
        wakeups.publish(session.topic)


def provision_waiting() -> None:
    """Ring again for each session in `creating` that nobody is at: its doorbell was lost, its maker died, its template got ready."""
    living = Process.objects.filter(dead_at=None).values("pk")
    waiting = Session.objects.filter(status=SessionStatus.CREATING, created_at__lt=Now() - dt.timedelta(seconds=3))
    unmade = waiting.filter(Q(container=None) | Q(container__maker=None) | ~Q(container__maker__in=living))
    for pk in unmade.values_list("pk", flat=True)[:100]:
        enqueue(Queue.LIFECYCLE, "sessions_app.tasks.provision", pk)


def end_without_sandbox() -> None:
    """End running sessions whose container is dead or gone: whoever found that out may have died before it said so."""
    gone = (ContainerStatus.EXITED, ContainerStatus.LOST, ContainerStatus.STOPPING, ContainerStatus.REMOVED)
    for pk in Session.objects.filter(status=SessionStatus.RUNNING, container__status__in=gone).values_list(
        "pk", flat=True
    ):
        lifecycle.end(pk, Reason.CONTAINER_LOST, "Its sandbox is gone")


def release_waiting() -> None:
    """Ring again for ended sessions that still hold something, the eldest first. Where files are still to be saved, that debt rings.

    When many end together, doorbells that find nothing to do would stand before those that do: a queue of them is enough.
    """
    if depth(Queue.LIFECYCLE) > 20:
        return
    ended = Session.objects.filter(released_at=None, ended_at__lt=Now() - dt.timedelta(seconds=15))
    unpaid = StorageDebt.objects.filter(what=Owed.SAVE, lost_at=None).values("pk")
    for pk in ended.exclude(pk__in=unpaid).order_by("ended_at").values_list("pk", flat=True)[:100]:
        enqueue(Queue.LIFECYCLE, "sessions_app.tasks.release", pk)
