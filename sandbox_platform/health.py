"""/health, /ready and /metrics: for load balancers, operators and Prometheus. No token, no secrets."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import structlog
from django.apps import apps
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt

from sandbox_platform import metrics
from sandbox_platform.errors import ApiError
from sandbox_platform.models import Process

log = structlog.get_logger(__name__)
# Of the runtime, where every node that could serve was switched off by an operator.
SWITCHED_OFF = "every node is switched off"


def _read_only(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    @csrf_exempt
    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            raise ApiError(
                "MethodNotAllowed", f'Method "{request.method}" not allowed.', headers={"Allow": "GET, HEAD"}
            )
        return view(request)

    return checked


@_read_only
def health(request: HttpRequest) -> JsonResponse:
    """200 as long as this process answers."""
    return JsonResponse({"status": "ok"})


@_read_only
def ready(request: HttpRequest) -> JsonResponse:
    """200 when a session could be created and run now, else 503. Each part by name: `ok` or what is wrong."""
    checks: dict[str, str] = {}
    for name, check in (("database", _database), ("queue", _queue), ("runtime", _runtime), ("storage", _storage)):
        try:
            checks[name] = check()
        except Exception as error:
            log.warning("not_ready", part=name, error=str(error))
            checks[name] = "unavailable"
    fine = all(state == "ok" for state in checks.values())
    return JsonResponse({"status": "ok" if fine else "unavailable", "checks": checks}, status=200 if fine else 503)


@_read_only
def prometheus(request: HttpRequest) -> HttpResponse:
    """Metrics of this process and of the rows."""
    return HttpResponse(metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "ok"


def _queue() -> str:
    kinds = set(Process.objects.filter(dead_at=None).values_list("kind", flat=True))
    missing = {"worker:runs", "worker:lifecycle"} - kinds
    return f"no process of {', '.join(sorted(missing))}" if missing else "ok"


def _runtime() -> str:
    node_model = apps.get_model("runtime.Node")
    if node_model.objects.schedulable().exists():
        return "ok"
    return SWITCHED_OFF if node_model.objects.filter(ready=True).exists() else "no node is ready"


def _storage() -> str:
    storage = import_string("sessions_app.services.storage.current")()
    storage.answers()
    return "ok"
