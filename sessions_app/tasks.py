"""Tasks of sessions: ids in, nothing out, safe to repeat."""

from __future__ import annotations

import structlog

from runtime.drivers.errors import DriverError
from sandbox_platform import idempotency
from sessions_app.services import copies, debts, lifecycle, links, storage
from sessions_app.services import provision as provisioning

log = structlog.get_logger(__name__)


def provision(session_id: str) -> None:
    """Make the session's sandbox."""
    provisioning.provision(session_id)


def release(session_id: str) -> None:
    """Give back what an ended session held."""
    try:
        lifecycle.release(session_id)
    except DriverError as error:
        log.warning("release_failed", session=session_id, error=str(error))  # `tick` rings again


def pay(session_id: str) -> None:
    """Copy or erase what the storage is owed of a session."""
    copies.pay(session_id)


def tick() -> None:
    """Each 2 s: what is due, and what somebody left lying."""
    lifecycle.expire_due()
    provisioning.provision_waiting()
    provisioning.end_without_sandbox()
    provisioning.release_waiting()
    debts.ring()


def sweep_uploads() -> None:
    """Each 10 min: what was uploaded past the sandboxes and never brought in."""
    try:
        links.sweep()
    except storage.StorageUnavailable as error:
        log.warning("uploads_not_swept", error=str(error))  # the next one does it


def purge() -> None:
    """Each hour: files, records and remembered answers whose time is over."""
    lifecycle.purge_old()
    idempotency.forget_old()
