"""The life of a session: admission, start, expiry, end, and giving back what it held."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, NamedTuple

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from runtime.services import capacity, containers, disk, pool
from sandbox_platform import crypto, direct, wakeups
from sandbox_platform.errors import ApiError, invalid
from sandbox_platform.models import Project
from sandbox_platform.queue import Queue, enqueue
from sandbox_platform.retention import delete_in_batches
from sessions_app.models import ENDED, STATUS_OF, Owed, Reason, Session, SessionStatus, StoredFile
from sessions_app.services import debts, network, saved, storage
from sessions_app.signals import session_closing, session_ended, session_purged, session_running
from templates_app import resources
from templates_app import services as templates
from templates_app.models import Network, Template, TemplateVersion

log = structlog.get_logger(__name__)
# Seconds that the runs of an ended session get to hand over their output.
RUNS_GRACE = 5.0


def create(
    project: Project, template: Template, values: dict[str, Any], version: TemplateVersion | None = None
) -> Session:
    """A session in `creating`, and the order to provision it. `values` are validated. Call inside a transaction.

    With `version` it is of a build of that version instead of the published one: operators try it so.
    """
    amounts = {**template.default_resources, **values.get("resources", {})}
    wanted = _servable(amounts)
    hosts = network.granted(version.as_template() if version else template, values)
    node = capacity.admit(template.pk, wanted)
    if node is None:
        raise ApiError(
            "TooManyRequestsExection",
            "Every node is at its capacity of sessions, cores, memory or disk",
            headers={"Retry-After": "5"},
        )
    env_vars = values.get("env_vars", {})
    session = Session.objects.create(
        project=project,
        template=template,
        version=version,
        node=node,
        runtime_type=node.runtime_type,
        cpu_millis=wanted.cpu_millis,
        memory_bytes=wanted.memory_bytes,
        disk_bytes=wanted.disk_bytes,
        timeout=values["timeout"],
        max_concurrency=values["max_concurrency"],
        labels=values.get("labels", {}),
        network=Network.ALLOWLIST if hosts else Network.NONE,
        allowed_hosts=hosts,
        workspace_from=values.get("workspace_from"),
        env_names=sorted(env_vars),
        env_sealed=crypto.seal(env_vars),
        **amounts,
    )
    # A sandbox that is to be filled first is not one that can be claimed and run at once.
    image = "" if version or values.get("workspace_from") else templates.image_for(template, node.runtime_type).ref
    container = pool.claim(node, template, image, amounts, bool(hosts)) if image else None
    if container is not None:
        Session.objects.filter(pk=session.pk).update(container=container)
    if container is not None and pool.fits(container, session.cpu, session.memory):
        start(session.pk)
    else:
        enqueue(Queue.LIFECYCLE, "sessions_app.tasks.provision", session.pk)
    return session


def _servable(amounts: dict[str, str]) -> capacity.Amounts:
    """As numbers. 400 for what no node could ever serve, 503 where no node is known or the disk is nearly full."""
    most = capacity.largest()
    if not most.cpu_millis:
        raise ApiError("RuntimeUnavailable", "No node takes sessions at the moment", headers={"Retry-After": "10"})
    wanted = capacity.Amounts(
        resources.cpu_millis(amounts["cpu"]), resources.size(amounts["memory"]), resources.size(amounts["disk"])
    )
    if wanted.cpu_millis > most.cpu_millis:
        raise invalid(f"resources.cpu: no node has {amounts['cpu']} cores; the maximum is {most.cpu_millis / 1000:g}")
    for name, asked, there in (
        ("memory", wanted.memory_bytes, most.memory_bytes),
        ("disk", wanted.disk_bytes, most.disk_bytes),
    ):
        if asked > there:
            raise invalid(f"resources.{name}: no node has {amounts[name]}; the maximum is {there >> 20}Mi")
    if disk.short():
        raise ApiError(
            "TooManyRequestsExection",
            "The host's disk is nearly full: there are no new sessions until there is room",
            headers={"Retry-After": "30"},
        )
    return wanted


def start(session_id: str) -> bool:
    """From `creating` to `running`: its sandbox is up. False if it has ended meanwhile. Call inside a transaction."""
    timeout = Session.objects.values_list("timeout", flat=True).get(pk=session_id)
    won = Session.objects.filter(pk=session_id).move(
        SessionStatus.RUNNING, started_at=Now(), last_activity_at=Now(), status_detail="",
        expires_at=Now() + dt.timedelta(seconds=timeout),
    )  # fmt: skip
    if won:
        session_running.send(sender=Session, session_id=session_id)
        wakeups.publish(f"session:{session_id}")
    return bool(won)


def extend(session: Session, timeout: int) -> bool:
    """Give it `timeout` seconds from now. False if it has ended. 400 beyond the maximum life."""
    if session.started_at:
        left = settings.SESSION_MAX_LIFETIME - (dt.datetime.now(dt.UTC) - session.started_at).total_seconds()
        if timeout > left:
            raise invalid(f"timeout: the maximum life ends in {max(0, int(left))} s")
    live = Session.objects.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), pk=session.pk, closing="")
    return bool(
        live.filter(status=SessionStatus.RUNNING).update(
            timeout=timeout, expires_at=Now() + dt.timedelta(seconds=timeout), last_activity_at=Now()
        )
        or live.filter(status=SessionStatus.CREATING).update(timeout=timeout, last_activity_at=Now())
    )


def touch(session: Session) -> None:
    """A request counts as activity. Written at most once a minute."""
    since = timezone.now() - session.last_activity_at
    if session.status == SessionStatus.RUNNING and not dt.timedelta(0) <= since < dt.timedelta(seconds=60):
        Session.objects.filter(pk=session.pk).update(last_activity_at=Now())


def end(session_id: str, reason: Reason, detail: str, condition: Q | None = None) -> bool:
    """End it for `reason` if it has not ended yet (and `condition` holds). What it held is given back behind this."""
    status = STATUS_OF.get(reason, SessionStatus.FAILED)
    with transaction.atomic():
        rows = Session.objects.filter(condition or Q(), pk=session_id)
        if not rows.move(status, status_reason=reason, status_detail=detail[:2000], ended_at=Now()):
            return False
        session_ended.send(sender=Session, session_id=session_id, reason=reason)
        enqueue(Queue.LIFECYCLE, "sessions_app.tasks.release", session_id)
        wakeups.publish(f"session:{session_id}")
    log.info("session_ended", session=session_id, reason=reason)
    return True


def terminate(session: Session, purge: bool = False) -> None:
    """The client's DELETE. Again and again is fine; `purge` also erases its files and outputs."""
    with transaction.atomic():
        if purge:
            Session.objects.filter(pk=session.pk).update(purge=True)
        ended = end(session.pk, Reason.TERMINATED_BY_CLIENT, "Terminated by the client")
        if purge:
            session_purged.send(sender=Session, session_id=session.pk)
        if purge and not ended:
            enqueue(Queue.LIFECYCLE, "sessions_app.tasks.release", session.pk)


def close(session_id: str, reason: Reason, detail: str) -> bool:
    """At its end in time: no more runs, pending ones end; the session ends with its last running one. False if it was closing."""
    with transaction.atomic():
        closed = Session.objects.filter(pk=session_id, status=SessionStatus.RUNNING, closing="").update(
            closing=reason, status_detail=detail
        )
        if closed:
            session_closing.send(sender=Session, session_id=session_id)
        end_if_done(session_id)
    return bool(closed)


def end_if_done(session_id: str) -> None:
    """End a closing session that has no run left."""
    session = (
        Session.objects.filter(pk=session_id, active_runs=0)
        .exclude(closing="")
        .only("closing", "status_detail")
        .first()
    )
    if session:
        end(session_id, Reason(session.closing), session.status_detail, Q(active_runs=0))


def expire_due() -> None:
    """End what is due by the database's clock: time-out, idleness, maximum life."""
    running = Session.objects.filter(status=SessionStatus.RUNNING)
    for pk, timeout in running.filter(closing="", expires_at__lte=Now()).values_list("pk", "timeout"):
        close(pk, Reason.EXPIRED, f"Its time-out of {timeout} s has passed")
    for pk in running.filter(active_runs=0).exclude(closing="").values_list("pk", flat=True):
        end_if_done(pk)
    eldest = dt.timedelta(seconds=settings.SESSION_MAX_LIFETIME)
    for pk in running.filter(started_at__lte=Now() - eldest).values_list("pk", flat=True):
        end(pk, Reason.MAX_LIFETIME, f"The maximum life of {settings.SESSION_MAX_LIFETIME} s has passed")
    idle = Q(active_runs=0, last_activity_at__lte=Now() - dt.timedelta(seconds=settings.SESSION_IDLE_TIMEOUT))
    for pk in running.filter(idle).values_list("pk", flat=True):
        end(pk, Reason.IDLE, f"No request and no run for {settings.SESSION_IDLE_TIMEOUT} s", idle)


def release(session_id: str) -> None:
    """Give back what an ended session held: let its runs hand over, save its files, remove its sandbox. Safe to repeat."""
    session = Session.objects.select_related("container__node").filter(pk=session_id, status__in=ENDED).first()
    if session is None:
        return
    if session.released_at is None:
        container = session.container
        if container is not None and container.maker is None:
            _await_runs(session)
            if debts.keeps(session):
                return  # the debt's end rings again
            containers.remove(container)
        elif container is not None and not _maker_dead(container.maker):
            return  # it is still being made: its maker gives it back
        elif container is not None:
            containers.remove(container)
        Session.objects.filter(pk=session_id, released_at=None).update(released_at=Now())
    if session.purge:
        with transaction.atomic():
            debts.owe(session_id, Owed.ERASE)
        session_purged.send(sender=Session, session_id=session_id)
    wakeups.publish(session.topic)


def _maker_dead(maker: Any) -> bool:
    from sandbox_platform.models import Process

    return not Process.objects.filter(pk=maker, dead_at=None).exists()


def _await_runs(session: Session) -> None:
    """Until its runs, which are being cancelled, have handed over their output; RUNS_GRACE seconds at the most."""
    deadline = time.monotonic() + RUNS_GRACE
    with wakeups.Waiter(session.topic) as waiter:
        while Session.objects.filter(pk=session.pk, active_runs__gt=0).exists() and time.monotonic() < deadline:
            waiter.wait(min(0.5, deadline - time.monotonic()))


def end_all(detail: str) -> None:
    """End every live session: the service stops."""
    for pk in Session.objects.exclude(status__in=ENDED).values_list("pk", flat=True):
        end(pk, Reason.TERMINATED_BY_OPERATOR, detail)


def wait_released(seconds: float) -> bool:
    """Wait until ended sessions have given back what they held. False if some have not by then."""
    deadline = time.monotonic() + seconds
    while held := Session.objects.filter(released_at=None).exists():
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    return not held


def purge_old() -> None:
    """Remove files and records whose time is over."""
    now = dt.datetime.now(dt.UTC)
    files_over = now - dt.timedelta(seconds=settings.FILES_RETENTION)
    stored = Q(files_saved_at__isnull=False) | Exists(StoredFile.objects.filter(session=OuterRef("pk")))
    try:
        for pk in Session.objects.filter(stored, ended_at__lt=files_over).values_list("pk", flat=True)[:500]:
            saved.erase(pk)
        storage.current().sweep((now - dt.timedelta(days=1)).timestamp())
    except storage.StorageUnavailable as error:
        log.warning("files_not_purged", error=str(error))  # the next hour's purge does it
    over = now - dt.timedelta(seconds=settings.SESSION_RETENTION)
    delete_in_batches(Session.objects.filter(~stored, ended_at__lt=over).exclude(released_at=None))


class Freed(NamedTuple):
    """Where a session stands when a slot of it has been freed, and whether it had none free before."""

    status: str
    closing: str
    was_full: bool


def take_slot(session_id: str) -> bool:
    """A slot for a run that begins in this transaction. False where none is free, where runs wait for one, or at the session's end."""
    return direct.one(f"{TAKE_SLOT} RETURNING 1", slot_params(session_id)) is not None


def claim_slot(session_id: str) -> bool:
    """A slot for one of those who wait, in this transaction. False where none is free, or at the session's end."""
    return direct.one(f"{CLAIM_SLOT} RETURNING 1", claim_params(session_id)) is not None


def claim_params(session_id: str) -> list[Any]:
    """Of HAS_SLOT."""
    return [session_id, str(SessionStatus.RUNNING)]


def slot_params(session_id: str) -> list[Any]:
    """Of TAKE_SLOT."""
    return [*claim_params(session_id), "pending"]


def free_slot(session_id: str) -> Freed:
    """A run has ended in this transaction."""
    return Freed(*(direct.one(FREE_SLOT, [session_id]) or ("", "", False)))


# The statements that every run makes. The executions' table is named rather than imported: it lies above this app.
HAS_SLOT = f"id = %s AND status = %s AND closing = '' AND active_runs < max_concurrency AND expires_at > {direct.NOW}"
FILL_SLOT = f"UPDATE {Session._meta.db_table} SET active_runs = active_runs + 1, last_activity_at = {direct.NOW}"  # noqa: S608
CLAIM_SLOT = f"{FILL_SLOT} WHERE {HAS_SLOT}"
TAKE_SLOT = f"""
    {CLAIM_SLOT} AND NOT EXISTS (
        SELECT 1 FROM executions_app_execution e WHERE e.session_id = {Session._meta.db_table}.id AND e.status = %s)
"""  # noqa: S608
FREE_SLOT = f"""
    UPDATE {Session._meta.db_table} SET active_runs = active_runs - 1, last_activity_at = {direct.NOW}
    WHERE id = %s RETURNING status, closing, active_runs + 1 >= max_concurrency AS was_full
"""  # noqa: S608
