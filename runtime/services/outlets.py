"""Who may go out now, as the rows say, and what became of their requests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from django.conf import settings
from django.db.models import F

from runtime.egress.gateway import SOCKET, Outlet
from runtime.models import Container, ContainerStatus, EgressCount
from runtime.services.containers import members
from templates_app.models import Network, Template


def wanted() -> bool:
    """Whether a proxy is of any use: a template or a live session has a list."""
    return Template.objects.kept().filter(network=Network.ALLOWLIST).exists() or bool(outlets())


def outlets() -> list[Outlet]:
    """The sandboxes of this host whose session runs and has a list. By the reverse relation: this app knows no sessions."""
    rows = Container.objects.filter(
        node_id=settings.NODE_NAME, status=ContainerStatus.RUNNING, egress=True,
        session__status="running", session__network=Network.ALLOWLIST,
    ).exclude(socket="").select_related("session").defer("session__env_sealed", "log_tail", "isolation")  # fmt: skip
    return [
        Outlet(
            name=row.name,
            socket=Path(row.socket).with_name(SOCKET),
            members=members(row),
            hosts=tuple(row.session.allowed_hosts),  # type: ignore[attr-defined]
            template=row.template_id,
            session=row.session.pk,  # type: ignore[attr-defined]
        )
        for row in rows
    ]


def count(done: Counter[tuple[str, str]]) -> None:
    """Add so many requests by (template, verdict)."""
    for (template, verdict), number in done.items():
        row, _ = EgressCount.objects.get_or_create(template_id=template, verdict=verdict)
        EgressCount.objects.filter(pk=row.pk).update(count=F("count") + number)
