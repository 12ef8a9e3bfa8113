"""The numbers of the dashboard: a fixed number of queries, each answered from an index, whatever the size of the tables."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, DurationField, ExpressionWrapper, F, Min, Q
from django.db.models.fields.json import KT
from django.db.models.functions import TruncHour
from django_q.models import Failure, OrmQ

from executions_app.models import Execution, ExecutionStatus
from runtime.models import Container, ContainerStatus, Node
from sandbox_platform.models import Process
from sandbox_platform.queue import Queue
from sessions_app.models import ENDED, Session, SessionStatus
from templates_app import resources

HOURS = 24
# Upper edges, in milliseconds, between which percentiles are interpolated.
EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000, 3_600_000)
BUSY = (ContainerStatus.CREATING, ContainerStatus.WARM, ContainerStatus.RUNNING)
LEFT = (ContainerStatus.STOPPING, ContainerStatus.EXITED, ContainerStatus.LOST)


@dataclass
class Histogram:
    """How many took at most so many milliseconds, per edge; cumulative."""

    total: int = 0
    within: list[int] = field(default_factory=lambda: [0] * len(EDGES))

    def add(self, total: int, within: list[int]) -> None:
        """Another group of rows."""
        self.total += total
        self.within = [mine + theirs for mine, theirs in zip(self.within, within, strict=True)]

    def percentile(self, share: float) -> float | None:
        """In milliseconds, interpolated between the edges; None without a row."""
        wanted = self.total * share
        if not self.total:
            return None
        below_edge, below = 0.0, 0
        for edge, count in zip(EDGES, self.within, strict=True):
            if count >= wanted and count > below:
                return below_edge + (edge - below_edge) * (wanted - below) / (count - below)
            below_edge, below = edge, count
        return float(EDGES[-1])


def hours(now: dt.datetime) -> list[dt.datetime]:
    """The beginnings of the last HOURS hours, the present one last."""
    this = now.replace(minute=0, second=0, microsecond=0)
    return [this - dt.timedelta(hours=back) for back in range(HOURS - 1, -1, -1)]


def live(model: type[Session] | type[Execution], statuses: list[str]) -> dict[str, tuple[int, dt.datetime | None]]:
    """Of each status, how many there are and since when the oldest. One query."""
    rows = (
        model.objects.filter(status__in=statuses)
        .order_by()
        .values_list("status")
        .annotate(Count("pk"), Min("created_at"))
    )
    found = {status: (count, oldest) for status, count, oldest in rows}
    return {status: found.get(status, (0, None)) for status in statuses}


def runs(since: dt.datetime) -> tuple[dict[str, dict[dt.datetime, int]], Histogram]:
    """Runs that ended since then, by status and hour, and how long they took. One query."""
    edges = {f"e{edge}": Count("duration_ms", filter=Q(duration_ms__lte=edge)) for edge in EDGES}
    ended = Execution.objects.filter(completed_at__gte=since).order_by().annotate(hour=TruncHour("completed_at"))
    by_status: dict[str, dict[dt.datetime, int]] = defaultdict(dict)
    histogram = Histogram()
    for row in ended.values("status", "hour").annotate(count=Count("*"), timed=Count("duration_ms"), **edges):
        by_status[row["status"]][row["hour"]] = row["count"]
        histogram.add(row["timed"], [row[name] for name in edges])
    return by_status, histogram


def faults(since: dt.datetime) -> list[tuple[str, int]]:
    """Why runs failed since then, the most frequent first. One query."""
    failed = Execution.objects.filter(
        completed_at__gte=since, status__in=[ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT]
    )
    rows = failed.order_by().annotate(fault=KT("error__error_code")).values_list("fault").annotate(count=Count("pk"))
    return sorted(((code or "unknown", count) for code, count in rows), key=lambda row: -row[1])


@dataclass
class SessionDay:
    """Sessions that were asked for since then."""

    by_hour: dict[dt.datetime, int]
    reasons: list[tuple[str, int]]
    starts: Histogram
    pooled: int
    started: int


def sessions(since: dt.datetime) -> SessionDay:
    """By hour, by the reason of their end, how long they took to start, and how many came from the warm pool. One query."""
    took = ExpressionWrapper(F("started_at") - F("created_at"), output_field=DurationField())
    edges = {f"e{edge}": Count("pk", filter=Q(took__lte=dt.timedelta(milliseconds=edge))) for edge in EDGES}
    asked = Session.objects.filter(created_at__gte=since).order_by().annotate(hour=TruncHour("created_at"), took=took)
    # A container that is older than its session was waiting for it.
    pooled = Count("pk", filter=Q(container__created_at__lt=F("created_at"), started_at__isnull=False))
    by_hour: dict[dt.datetime, int] = defaultdict(int)
    reasons: dict[str, int] = defaultdict(int)
    day = SessionDay({}, [], Histogram(), 0, 0)
    groups = asked.values("hour", "status", "status_reason")
    for row in groups.annotate(count=Count("pk"), started=Count("started_at"), pooled=pooled, **edges):
        by_hour[row["hour"]] += row["count"]
        if row["status"] == SessionStatus.FAILED:
            reasons[row["status_reason"]] += row["count"]
        day.starts.add(row["started"], [row[name] for name in edges])
        day.pooled, day.started = day.pooled + row["pooled"], day.started + row["started"]
    day.by_hour, day.reasons = dict(by_hour), sorted(reasons.items(), key=lambda row: -row[1])
    return day


def capacity() -> list[dict[str, Any]]:
    """What each node has and what its containers were promised. Two queries."""
    promised: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    live_rows = (
        Container.objects.filter(status__in=BUSY).order_by().values_list("node_id", "status", "cpu", "memory", "disk")
    )
    for node, status, cpu, memory, disk, count in live_rows.annotate(Count("pk")):
        sums = promised[node]
        sums[0] += count
        sums[1] += resources.cpu_millis(cpu) * count
        sums[2] += resources.size(memory) * count
        sums[4] += resources.size(disk) * count
        sums[3] += count if status == ContainerStatus.WARM else 0
    found = []
    for node in Node.objects.all():
        count, cpu_millis, memory, warm, disk = promised[node.pk]
        entry = {"node": node, "containers": count, "warm": warm}
        found.append({**entry, "cpu_millis": cpu_millis, "memory": memory, "disk": disk})
    return found


def queues(now: dt.datetime) -> list[dict[str, Any]]:
    """Of each queue, how many tasks wait and since when the oldest, in seconds. Two queries."""
    waiting = {
        key: (count, head)
        for key, count, head in OrmQ.objects.order_by().values_list("key").annotate(Count("pk"), Min("pk"))
    }
    heads = OrmQ.objects.in_bulk([head for _, head in waiting.values()])
    found = []
    for queue in Queue:
        count, head = waiting.get(str(queue), (0, None))
        started = heads[head].task.get("started") if head in heads else None
        age = (now - started).total_seconds() if started else 0.0
        found.append({"name": str(queue), "depth": count, "age": max(0.0, age)})
    return found


def workers() -> dict[str, int]:
    """Living processes by kind. One query."""
    return dict(Process.objects.filter(dead_at=None).order_by().values_list("kind").annotate(Count("pk")))


def debts(since: dt.datetime) -> dict[str, Any]:
    """What is owed: ended sessions that still hold something, containers that are to go, tasks that failed. Three queries."""
    held = Session.objects.filter(released_at=None, status__in=ENDED).aggregate(
        count=Count("pk"), oldest=Min("ended_at")
    )
    left = Container.objects.filter(status__in=LEFT).aggregate(count=Count("pk"), oldest=Min("created_at"))
    return {"held": held, "left": left, "failed_tasks": Failure.objects.filter(started__gte=since).count()}
