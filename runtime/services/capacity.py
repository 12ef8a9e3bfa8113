"""Admission: what a node has promised, and whether it can promise more.

What is promised is summed over the live sessions under a lock on the node's row: there is no counter that could lie after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q, Sum

from runtime.models import ContainerStatus, Node


@dataclass(frozen=True)
class Promised:
    """Of one node: live sessions, thousandths of a core, bytes of memory."""

    sessions: int
    cpu_millis: int
    memory_bytes: int

    def fits(self, node: Node, cpu_millis: int, memory_bytes: int) -> bool:
        """Whether one more session of that size may be promised."""
        return (
            self.sessions + 1 <= node.max_sessions
            and self.cpu_millis + cpu_millis <= node.cpu_millis * node.cpu_overcommit
            and self.memory_bytes + memory_bytes <= node.memory_bytes * node.memory_overcommit
        )


def promised(node: Node) -> Promised:
    """Over all sessions that have not given back what they hold. Asked through the reverse relation: this app knows no sessions."""
    sums = node.sessions.filter(released_at=None).aggregate(  # type: ignore[attr-defined]
        sessions=Count("pk"), cpu=Sum("cpu_millis"), memory=Sum("memory_bytes")
    )
    return Promised(sums["sessions"], sums["cpu"] or 0, sums["memory"] or 0)


def admit(template_id: str, cpu_millis: int, memory_bytes: int) -> Node | None:
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
        if now.fits(node, cpu_millis, memory_bytes):
            if stock:
                return node
            fitting.append((now.memory_bytes, node))
    return min(fitting, key=lambda row: row[0])[1] if fitting else None
