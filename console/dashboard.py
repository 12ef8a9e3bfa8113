"""The first page: tiles that link to the rows behind them, and charts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from console import figures
from executions_app.models import ExecutionStatus
from sandbox_platform.admin_show import duration
from sessions_app.models import SessionStatus

EXECUTIONS, SESSIONS = "executions_app_execution", "sessions_app_session"
CONTAINERS, NODES, PROCESSES = "runtime_container", "runtime_node", "sandbox_platform_process"
FAILED = {"status__in": f"{ExecutionStatus.FAILED},{ExecutionStatus.TIMEOUT}"}
TASKS, FAILURES = "django_q_ormq", "django_q_failure"


@dataclass(frozen=True)
class Tile:
    """One number and where its rows are."""

    label: str
    value: str
    url: str
    note: str = ""
    bad: bool = False


def rows(model: str, **query: str) -> str:
    """The URL of a list with these filters."""
    page = reverse(f"admin:{model}_changelist")
    return f"{page}?{urlencode(query)}" if query else page


def context(request: HttpRequest) -> dict[str, Any]:
    """For admin/index.html. Who may not see sessions and executions gets the nodes and the queues alone."""
    now = timezone.now()
    day = figures.hours(now)
    found: dict[str, Any] = {"tiles": [], "charts": [], "nodes": []}
    if request.user.has_perm("sessions_app.view_session") and request.user.has_perm("executions_app.view_execution"):
        _tenants(found, now, day)
    for chart in found["charts"]:
        chart["script"] = f"chart-{chart['id']}"
        columns = zip(*(one["data"] for one in chart["datasets"]), strict=True)
        chart["rows"] = [
            {"label": label, "url": url, "data": data}
            for label, url, data in zip(chart["labels"], chart["urls"], columns, strict=True)
        ]
    if request.user.has_perm("runtime.view_container"):
        found["nodes"] = [_node(entry) for entry in figures.capacity()]
    if request.user.has_perm("sandbox_platform.view_process"):
        _machinery(found, now, day[0])
    return found


def _tenants(found: dict[str, Any], now: dt.datetime, day: list[dt.datetime]) -> None:
    live = figures.live(figures.Session, [SessionStatus.CREATING, SessionStatus.RUNNING])
    waiting = figures.live(figures.Execution, [ExecutionStatus.PENDING, ExecutionStatus.RUNNING])
    runs, took = figures.runs(day[0])
    sessions, faults = figures.sessions(day[0]), figures.faults(day[0])
    ended = sum(sum(by_hour.values()) for by_hour in runs.values())
    failed = ended - sum(runs.get(ExecutionStatus.COMPLETED, {}).values())
    rate = f"{sessions.pooled / sessions.started:.0%}" if sessions.started else "–"
    creating, pending = live[SessionStatus.CREATING], waiting[ExecutionStatus.PENDING]
    found["tiles"] += [
        Tile("Sessions running", _count(live[SessionStatus.RUNNING][0]), rows(SESSIONS, status__exact="running")),
        Tile("Sessions starting", _count(creating[0]), rows(SESSIONS, status__exact="creating"), _since(creating[1], now)),
        Tile("Runs running", _count(waiting[ExecutionStatus.RUNNING][0]), rows(EXECUTIONS, status__exact="running")),
        Tile("Runs waiting", _count(pending[0]), rows(EXECUTIONS, status__exact="pending"), _since(pending[1], now)),
        Tile("Runs, 24 h", _count(ended), rows(EXECUTIONS, **_over(day))),
        Tile("Runs failed, 24 h", _count(failed), rows(EXECUTIONS, **_over(day), **FAILED),
             f"{failed / ended:.1%} of all" if ended else ""),
        Tile("Run time, median", _ms(took.percentile(0.5)), rows(EXECUTIONS, **_over(day)),
             f"p95 {_ms(took.percentile(0.95))} · p99 {_ms(took.percentile(0.99))}"),
        Tile("Session start, median", _ms(sessions.starts.percentile(0.5)), rows(SESSIONS, since="24h"),
             f"p95 {_ms(sessions.starts.percentile(0.95))}"),
        Tile("Warm pool hits", rate, rows(CONTAINERS, status__exact="warm"), f"{sessions.pooled:,} of {sessions.started:,} starts"),
    ]  # fmt: skip
    found["charts"] = [
        _runs_chart(runs, day), _sessions_chart(sessions.by_hour, day), _faults_chart(faults, day), _reasons_chart(sessions.reasons),
    ]  # fmt: skip


def _machinery(found: dict[str, Any], now: dt.datetime, since: dt.datetime) -> None:
    queues, workers, debts = figures.queues(now), figures.workers(), figures.debts(since)
    alive = sum(count for kind, count in workers.items() if kind.startswith("worker:"))
    kinds = ", ".join(
        f"{count} {kind.removeprefix('worker:')}"
        for kind, count in sorted(workers.items())
        if kind.startswith("worker:")
    )
    held, left = debts["held"], debts["left"]
    oldest = min((moment for moment in (held["oldest"], left["oldest"]) if moment), default=None)
    depth, age = sum(queue["depth"] for queue in queues), max(queue["age"] for queue in queues)
    found["tiles"] += [
        Tile("Tasks queued", _count(depth), rows(TASKS), ", ".join(f"{queue['name']} {queue['depth']}" for queue in queues), depth > 1000),
        Tile("Oldest task", duration(age) if depth else "–", rows(TASKS), bad=age > 30),
        Tile("Workers alive", _count(alive), rows(PROCESSES, dead_at__isempty="1"), kinds, bad=not alive),
        Tile("Tasks failed, 24 h", _count(debts["failed_tasks"]), rows(FAILURES), bad=debts["failed_tasks"] > 0),
        Tile("Oldest debt", _since(oldest, now) or "none", rows(CONTAINERS, status__exact="stopping"),
             f"{held['count']} sessions to release, {left['count']} containers to remove",
             bad=oldest is not None and (now - oldest).total_seconds() > 300),
    ]  # fmt: skip


def _over(day: list[dt.datetime]) -> dict[str, str]:
    """Runs that ended in these hours, as they are counted: one that began before them is among them."""
    return {"completed_at__gte": day[0].isoformat()}


def _count(number: int) -> str:
    return f"{number:,}"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def _since(moment: dt.datetime | None, now: dt.datetime) -> str:
    return f"oldest {duration((now - moment).total_seconds())}" if moment else ""


def _labels(day: list[dt.datetime]) -> list[str]:
    return [f"{hour:%H}:00" for hour in day]


def _hour_urls(model: str, column: str, day: list[dt.datetime]) -> list[str]:
    step = dt.timedelta(hours=1)
    return [
        rows(model, **{f"{column}__gte": hour.isoformat(), f"{column}__lt": (hour + step).isoformat()}) for hour in day
    ]


def _runs_chart(runs: dict[str, dict[dt.datetime, int]], day: list[dt.datetime]) -> dict[str, Any]:
    shades = {"completed": "--chart-1", "failed": "--chart-2", "timeout": "--chart-3"}
    datasets = [
        {"label": status, "data": [runs.get(status, {}).get(hour, 0) for hour in day], "colour": shade}
        for status, shade in shades.items()
    ]
    urls = _hour_urls(EXECUTIONS, "completed_at", day)
    return {"id": "runs", "title": "Runs by hour (UTC)", "type": "bar", "stacked": True, "labels": _labels(day),
            "datasets": datasets, "urls": urls, "wide": True, "empty": not runs}  # fmt: skip


def _sessions_chart(by_hour: dict[dt.datetime, int], day: list[dt.datetime]) -> dict[str, Any]:
    data = [by_hour.get(hour, 0) for hour in day]
    return {"id": "sessions", "title": "Sessions created by hour (UTC)", "type": "line", "labels": _labels(day),
            "datasets": [{"label": "sessions", "data": data, "colour": "--chart-4"}],
            "urls": _hour_urls(SESSIONS, "created_at", day), "empty": not by_hour}  # fmt: skip


def _faults_chart(faults: list[tuple[str, int]], day: list[dt.datetime]) -> dict[str, Any]:
    urls = [rows(EXECUTIONS, **_over(day), fault=code) for code, _ in faults]
    return _bars(
        "faults", "Failed runs by fault, 24 h", [(code.removeprefix("Sandbox."), count) for code, count in faults], urls
    )


def _reasons_chart(reasons: list[tuple[str, int]]) -> dict[str, Any]:
    urls = [rows(SESSIONS, since="24h", status_reason__exact=reason) for reason, _ in reasons]
    return _bars("reasons", "Failed sessions by reason, 24 h", reasons, urls)


def _bars(name: str, title: str, pairs: list[tuple[str, int]], urls: list[str]) -> dict[str, Any]:
    data = {"label": "count", "data": [count for _, count in pairs], "colour": "--chart-2"}
    return {"id": name, "title": title, "type": "bar", "horizontal": True, "labels": [label for label, _ in pairs],
            "datasets": [data], "urls": urls, "empty": not pairs}  # fmt: skip


def _node(entry: dict[str, Any]) -> dict[str, Any]:
    node = entry["node"]
    return {
        **entry, "url": reverse("admin:runtime_node_change", args=[node.pk]), "containers_url": rows(CONTAINERS, node__name__exact=node.pk),
        "cores": _promised(f"{entry['cpu_millis'] / 1000:g}", node.cpu_millis / 1000, node.cpu_overcommit, "cores"),
        "memory_words": _promised(f"{entry['memory'] / 2**30:.1f}", node.memory_bytes / 2**30, node.memory_overcommit, "GiB of memory"),
        "disk_words": _promised(f"{entry['disk'] / 2**30:.1f}", node.disk_bytes / 2**30, node.disk_overcommit, "GiB of disk"),
        "cpu_share": _share(entry["cpu_millis"], node.cpu_millis * node.cpu_overcommit),
        "memory_share": _share(entry["memory"], node.memory_bytes * node.memory_overcommit),
        "disk_share": _share(entry["disk"], node.disk_bytes * node.disk_overcommit),
    }  # fmt: skip


def _promised(part: str, there: float, overcommit: float, unit: str) -> str:
    """Of what may be promised, which is more than there is where a node is overcommitted."""
    beyond = f" ({_short(there)} there)" if overcommit != 1 else ""
    return f"{part} of {_short(there * overcommit)} {unit} promised{beyond}"


def _short(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def _share(part: float, whole: float) -> int:
    """In percent of what may be promised."""
    return min(100, round(100 * part / whole)) if whole else 0
