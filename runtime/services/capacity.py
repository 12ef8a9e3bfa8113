"""Admission: what a node has promised, and whether it can promise more.

What is promised is summed over the live sessions under a lock on the node's row: there is no counter that could lie after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Max, Q, Sum

from runtime.models import ContainerStatus, Node


@dataclass(frozen=True)
class Amounts:
    """Thousandths of a core, bytes of memory, bytes of disk."""

    cpu_millis: int
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class Promised:
    """Of one node: live sessions, and what they were promised in all."""

    sessions: int
    amounts: Amounts

    def fits(self, node: Node, more: Amounts) -> bool:
        """Whether one more session of that size may be promised."""
        now = self.amounts
        return (
            self.sessions + 1 <= node.max_sessions
            and now.cpu_millis + more.cpu_millis <= node.cpu_millis * node.cpu_overcommit
            and now.memory_bytes + more.memory_bytes <= node.memory_bytes * node.memory_overcommit
            and now.disk_bytes + more.disk_bytes <= node.disk_bytes * node.disk_overcommit
        )


def promised(node: Node) -> Promised:
    """Over all sessions that have not given back what they hold. Asked through the reverse relation: this app knows no sessions."""
    sums = node.sessions.filter(released_at=None).aggregate(  # type: ignore[attr-defined]
        sessions=Count("pk"), cpu=Sum("cpu_millis"), memory=Sum("memory_bytes"), disk=Sum("disk_bytes")
    )
    return Promised(sums["sessions"], Amounts(sums["cpu"] or 0, sums["memory"] or 0, sums["disk"] or 0))


def largest() -> Amounts:
    """What the largest nodes have."""
    most = Node.objects.filter(enabled=True).aggregate(
        cpu=Max("cpu_millis"), memory=Max("memory_bytes"), disk=Max("disk_bytes")
    )
    return Amounts(most["cpu"] or 0, most["memory"] or 0, most["disk"] or 0)


def admit(template_id: str, amounts: Amounts) -> Node | None:
    """The node for one more session, locked until the transaction ends; None where none has room.

    Of the nodes that answer, one with warm stock of the template is taken first, then the emptiest. Where no node answers, one that is
    enabled is taken all the same: the session waits in `creating` until its start deadline.
    """
    warm = Count("containers", filter=Q(containers__status=ContainerStatus.WARM, containers__template=template_id))
    enabled = Node.objects.filter(enabled=True).annotate(warm=warm).order_by("-warm", "name")
    candidates = list(enabled.values_list("name", "ready", "warm"))
    candidates = [row for row in candidates if row[1]] or candidates
    fitting: list[tuple[int, Node]] = []
    for name, _, stock in candidates:
        node = Node.objects.select_for_update().get(pk=name)
        now = promised(node)
        if now.fits(node, amounts):
            if stock:
                return node
            fitting.append((now.amounts.memory_bytes, node))
    return min(fitting, key=lambda row: row[0])[1] if fitting else None
