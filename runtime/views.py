"""/containers: what exists on the engines for a project's sessions."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import suppress

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from runtime.drivers.errors import DriverError, SandboxNotFound
from runtime.models import Container, ContainerStatus, RuntimeType
from runtime.serializers import STATUSES, ContainerList, ContainerOut, StatsOut, as_stats
from runtime.services.nodes import driver_for
from sandbox_platform import pagination
from sandbox_platform.auth import key_of
from sandbox_platform.errors import ApiError, invalid
from sandbox_platform.openapi import LIMIT, OFFSET, TEXT, operation, whole
from sandbox_platform.renderers import AnyAccept

# The contract's words; of the last there is none yet.
RUNTIME_TYPES = [*RuntimeType.values, "kubernetes"]
READ_ALL = "containers:read_all"
ID = re.compile(r"[0-9a-f]{12,64}")
UP = (ContainerStatus.WARM, ContainerStatus.RUNNING, ContainerStatus.STOPPING, ContainerStatus.EXITED)


def visible(request: Request) -> QuerySet:
    """Those of the caller's project; all, the idle pool included, with containers:read_all."""
    rows = Container.objects.select_related("session", "node")
    return rows if READ_ALL in key_of(request).scopes else rows.filter(session__project=key_of(request).project)


def find(request: Request, container_id: str) -> Container:
    """By the short or the full id, or 404."""
    found = list(visible(request).filter(ref__startswith=container_id)[:2]) if ID.fullmatch(container_id) else []
    if len(found) != 1:
        raise ApiError("ContainerNotFound", f"Container '{container_id[:100]}' does not exist")
    return found[0]


class ContainersView(APIView):
    """The collection."""

    @operation(
        "list_containers", "List containers", tag="containers", responses={200: ContainerList},
        parameters=[
            OpenApiParameter("status", enum=STATUSES), OpenApiParameter("runtime_type", enum=RUNTIME_TYPES),
            OpenApiParameter("session_id"), LIMIT, OFFSET,
        ],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """Newest first."""
        query = pagination.known_only(request, "status", "runtime_type", "session_id", "limit", "offset")
        wanted = Q()
        if status := pagination.choice(query, "status", STATUSES):
            wanted &= Q(status=status)
        if runtime_type := pagination.choice(query, "runtime_type", RUNTIME_TYPES):
            wanted &= Q(runtime_type=runtime_type)
        if session_id := pagination.text(query, "session_id"):
            wanted &= Q(session=session_id)
        rows = visible(request).filter(wanted).order_by("-created_at", "-name")
        return pagination.page(request, rows, "containers", lambda row: ContainerOut(row).data)


class ContainerView(APIView):
    """One container."""

    @operation(
        "get_container",
        "Get container details",
        tag="containers",
        responses={200: ContainerOut},
        errors=["ContainerNotFound"],
    )
    def get(self, request: Request, container_id: str) -> Response:
        """Removed ones too, as long as their record is kept."""
        return Response(ContainerOut(find(request, container_id)).data)


class ContainerLogsView(APIView):
    """Its log."""

    content_negotiation_class = AnyAccept

    @operation(
        "get_container_logs", "Get container logs", tag="containers", responses=TEXT,
        errors=["ContainerNotFound", "RuntimeUnavailable"],
        parameters=[
            OpenApiParameter("tail", whole(1, 10000, 100), description="The last so many lines."),
            OpenApiParameter("since", dt.datetime, description="Only lines from then on."),
        ],
    )  # fmt: skip
    def get(self, request: Request, container_id: str) -> HttpResponse:
        """Of the executor: `<time>Z [LEVEL] event key=value`. What user code prints stands in the results. After the end, what was kept."""
        query = pagination.known_only(request, "tail", "since")
        tail = pagination.integer(query, "tail", 100, 1, 10_000)
        since = _moment(query.get("since"))
        container = find(request, container_id)
        text = _since(container.log_tail, since)
        if container.status in UP:
            try:
                text = driver_for(container).logs(container.name, tail=tail, since=since)
            except SandboxNotFound:
                pass
            except DriverError as error:
                raise ApiError("RuntimeUnavailable", "The container engine did not answer") from error
        lines = text.splitlines(keepends=True)[-tail:]
        return HttpResponse("".join(lines), content_type="text/plain; charset=utf-8")


class ContainerStatsView(APIView):
    """Its figures."""

    @operation("get_container_stats", "Get container statistics", tag="containers", responses={200: StatsOut},
               errors=["ContainerNotFound", "Conflict", "RuntimeUnavailable"])  # fmt: skip
    def get(self, request: Request, container_id: str) -> Response:
        """Of this moment; 409 once it is gone."""
        container = find(request, container_id)
        try:
            return Response(as_stats(driver_for(container).stats(container.name)))
        except SandboxNotFound:
            raise ApiError("Conflict", "The container does not run any more") from None
        except DriverError as error:
            raise ApiError("RuntimeUnavailable", "The container engine did not answer") from error


def _since(log: str, since: dt.datetime | None) -> str:
    """The part of a kept log from that time on. A line that begins with no time belongs to the one before."""
    if since is None:
        return log
    kept, shown = [], False
    for line in log.splitlines(keepends=True):
        with suppress(ApiError):
            shown = _moment(line.split(" ", 1)[0].strip()) >= since  # type: ignore[operator]
        kept += [line] if shown else []
    return "".join(kept)


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = parse_datetime(text.replace(" ", "+"))
        if moment is not None:
            return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        pass  # no time, or one that lies before the year 1 or behind 9999 in UTC
    raise invalid("since: must be an ISO 8601 time such as 2026-01-06T10:00:00Z")
