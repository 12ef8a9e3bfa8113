"""/health, /ready and /metrics: no token, no secrets."""

import re

import pytest
from django.db import OperationalError
from django.test import Client

from runtime.models import Node
from sandbox_platform.models import Process
from tests.api.client import Api, error_of
from tests.factories import ExecutionFactory, NodeFactory, SessionFactory

client = Client(raise_request_exception=False)


def everything_is_there() -> None:
    NodeFactory()
    for kind in ("worker:runs", "worker:lifecycle"):
        Process.objects.create(kind=kind, host="h", pid=1)


def test_health_answers_without_a_database() -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["X-Request-ID"]


def test_ready_names_each_part(db: None) -> None:
    everything_is_there()
    answer = client.get("/ready")
    assert answer.json() == {"status": "ok", "checks": dict.fromkeys(["database", "queue", "runtime", "storage"], "ok")}
    assert answer.status_code == 200


def test_ready_says_what_is_missing(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    everything_is_there()
    Node.objects.update(ready=False)
    Process.objects.filter(kind="worker:runs").update(dead_at="2026-01-01T00:00:00Z")
    answer = client.get("/ready")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks["runtime"] == "no node is ready"
    assert "worker:runs" in checks["queue"] and "lifecycle" not in checks["queue"]
    assert (checks["database"], checks["storage"]) == ("ok", "ok")


def test_ready_says_that_an_operator_switched_the_nodes_off(db: None) -> None:
    everything_is_there()
    Node.objects.update(enabled=False)
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()["checks"]["runtime"]) == (503, "every node is switched off")


def test_ready_without_a_database_tells_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise OperationalError("could not connect as hunter2")

    for name in ("_database", "_queue", "_runtime"):
        monkeypatch.setattr(f"sandbox_platform.health.{name}", gone)
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {
        "database": "unavailable",
        "queue": "unavailable",
        "runtime": "unavailable",
        "storage": "ok",
    }
    assert b"hunter2" not in answer.content


def test_metrics_count_requests_and_rows(api: Api) -> None:
    SessionFactory(project=api.project)
    ExecutionFactory(session__project=api.project, status="completed")
    api.get("/sessions")
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = answer.content.decode()
    assert 'sandbox_sessions{status="creating"} 2.0' in text
    assert 'sandbox_executions{status="completed"} 1.0' in text
    assert 'sandbox_queue_depth{queue="runs"} 0.0' in text
    assert re.search(
        r'sandbox_http_request_seconds_count\{method="GET",route="api/v1/sessions",status="200"\} [1-9]', text
    )


def test_strange_methods_and_paths_do_not_grow_the_metrics(db: None) -> None:
    for n in range(20):
        client.generic(f"BREW{n}", f"/nowhere/{n}")
    text = client.get("/metrics").content.decode()
    assert "BREW" not in text and "nowhere" not in text


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_another_method_is_405(db: None, path: str, method: str) -> None:
    answer = Client(raise_request_exception=False, enforce_csrf_checks=True).generic(method, path)
    error_of(answer, 405, "MethodNotAllowed")
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_head_is_answered(db: None, path: str) -> None:
    assert client.head(path).status_code in (200, 503)


@pytest.mark.parametrize("path", ["/health", "/api/v1/nowhere"])
def test_an_answer_says_how_long_it_is(path: str) -> None:
    answer = client.get(path)
    assert int(answer.headers["Content-Length"]) == len(answer.content) > 0
