"""Prometheus: what this process counted, and what the rows say."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

registry = CollectorRegistry()
requests = Histogram(
    "sandbox_http_request_seconds", "Time to answer", ["method", "route", "status"], registry=registry,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)  # fmt: skip
run_seconds = Histogram(
    "sandbox_run_seconds", "Duration of runs by their end", ["outcome"], registry=registry,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60, 300, 3600),
)  # fmt: skip
pool_claims = Counter("sandbox_pool_claims", "Claims of warm containers", ["template", "outcome"], registry=registry)
pool_claim_seconds = Histogram(
    "sandbox_pool_claim_seconds", "Duration of successful claims", registry=registry,
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5),
)  # fmt: skip
pool_fit_seconds = Histogram(
    "sandbox_pool_fit_seconds", "Time to give a claimed container other limits", registry=registry,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 20),
)  # fmt: skip


class RowCollector(Collector):
    """Rows by status, and the depth of each queue, at the moment of the scrape."""

    def collect(self) -> Iterator[Metric]:
        """One GROUP BY a model."""
        from django.apps import apps
        from django.db.models import Count

        from sandbox_platform.queue import Queue, depth

        for label, name in (
            ("sessions_app.Session", "sandbox_sessions"),
            ("executions_app.Execution", "sandbox_executions"),
            ("runtime.Container", "sandbox_containers"),
        ):
            gauge = GaugeMetricFamily(name, f"{label.split('.')[1]} rows by status", labels=["status"])
            for status, count in apps.get_model(label).objects.values_list("status").annotate(Count("pk")).order_by():
                gauge.add_metric([status], count)
            yield gauge
        gauge = GaugeMetricFamily(
            "sandbox_storage_debts", "What the storage has not acknowledged", labels=["what", "state"]
        )
        debts = apps.get_model("sessions_app.StorageDebt").objects
        for what in ("copy", "save", "erase"):
            gauge.add_metric([what, "owed"], debts.filter(what=what, lost_at=None).count())
        gauge.add_metric(["save", "lost"], debts.exclude(lost_at=None).count())
        yield gauge
        gauge = GaugeMetricFamily("sandbox_queue_depth", "Tasks that wait", labels=["queue"])
        for queue in Queue:
            gauge.add_metric([str(queue)], depth(queue))
        yield gauge
        counter = CounterMetricFamily(
            "sandbox_egress_requests", "Requests of sandboxes to the egress proxy", labels=["template", "verdict"]
        )
        for row in apps.get_model("runtime.EgressCount").objects.all():
            counter.add_metric([row.template_id, row.verdict], row.count)
        yield counter


rows = CollectorRegistry()
rows.register(RowCollector())


def exposition() -> bytes:
    """The text format."""
    return generate_latest(registry) + generate_latest(rows)
