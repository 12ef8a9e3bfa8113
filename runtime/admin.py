"""Nodes and containers: inspection by operators, and ending what must end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runtime.admin_cards import container_cards
from runtime.models import Container, ContainerStatus, Node
from runtime.services import inspection, operators
from runtime.services.operators import Manner
from sandbox_platform.admin_actions import Act
from sandbox_platform.admin_base import ConsoleAdmin, WatchedAdmin, link
from sandbox_platform.admin_lists import SinceFilter
from sandbox_platform.admin_show import badge, inert, moment

# Rows of a list whose figures are asked for at a time: an engine takes some milliseconds for each.
FIGURES = 20


@admin.register(Node)
class NodeAdmin(ConsoleAdmin):
    """Engines. `enabled` is the operator's word; the rest is probed."""

    list_display = ["name", "runtime_type", "state", "enabled", "detail", "probed"]
    empty_hint = "A node registers itself when its service starts: manage.py up."
    readonly_fields = (
        "name",
        "runtime_type",
        "url",
        "ready",
        "detail",
        "cpu_millis",
        "memory_bytes",
        "disk_bytes",
        "probed_at",
        "created_at",
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A node registers itself when its service starts."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Switch it off instead: its containers point at it."""
        return False

    @admin.display(description="State")
    def state(self, node: Node) -> SafeString:
        """What its last probe said."""
        return badge("ready", "good") if node.ready else badge("not ready", "bad")

    @admin.display(description="Probed")
    def probed(self, node: Node) -> SafeString | str:
        """How long ago."""
        return moment(node.probed_at)


def _ending(manner: Manner) -> Callable[[HttpRequest, Container, Mapping[str, Any]], bool]:
    def run(request: HttpRequest, container: Container, values: Mapping[str, Any]) -> bool:
        return operators.end(container, manner, f"the operator {request.user.get_username()}")

    return run


@admin.register(Container)
class ContainerAdmin(WatchedAdmin):
    """Sandboxes: what was asked for, what was attested, what they say and use now."""

    list_display = ["short_id", "state", "session_link", "template", "node", "age", "cpu_now", "memory_now"]
    list_filter = ["status", SinceFilter, "runtime_type", "node", "template"]
    list_select_related = ["session", "template", "node"]
    search_fields = ["name"]
    search_help_text = "A container's id, its name (sbx-…) or its session's id, or the beginning of one"
    search_prefixes = {"": "ref__startswith", "sbx-": "pk__startswith", "sess_": "session__pk__startswith"}
    empty_hint = "They appear here once a session starts. Try a template from its page."
    acts = (
        Act("drain", "Drain", "Drained",
            "It takes no more runs and goes with its last one; its session ends then, and its files are kept.",
            _ending(Manner.DRAIN), possible=lambda row: row.status in (ContainerStatus.RUNNING, ContainerStatus.WARM), danger=False),
        Act("remove", "Remove", "Removed",
            "Its session ends now. Runs are stopped, their output so far and the files are kept, then the sandbox is removed.",
            _ending(Manner.REMOVE), possible=operators.possible),
        Act("kill", "Kill", "Killed",
            "The sandbox is destroyed at once. Output and files that were not handed over yet are lost, and its session ends.",
            _ending(Manner.KILL), possible=operators.possible),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Lists do without the large columns."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match and match.kwargs.get("object_id"):
            return rows.select_related("session", "template", "node")
        return rows.defer(
            "log_tail", "isolation", "limits_enforced", "detail", "session__env_sealed", "session__labels"
        )

    def get_urls(self) -> list[URLPattern]:
        """And what the pages ask for while they are open."""
        view = self.admin_site.admin_view
        own = [
            path("figures.json", view(self.figures_view), name="runtime_container_figures"),
            path("<path:object_id>/live.json", view(self.live_view), name="runtime_container_live"),
        ]
        return [*own, *super().get_urls()]

    def live_url(self, row: Container) -> str:
        """Log and figures."""
        return reverse("admin:runtime_container_live", args=[row.pk])

    def cards(self, request: HttpRequest, row: Container) -> list[Any]:
        """See admin_cards."""
        return container_cards(row)

    def live_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """Log and figures of this moment."""
        row = self.get_object(request, object_id)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            raise Http404
        now = inspection.figures(row) or {}
        fields = {"status": row.status, "log": inert(inspection.log(row)) or "No line yet.", "connection": ""}
        fields |= {name: f"{value:,.0f}" for name, value in now.items() if name in ("pids", "oom_kills")}
        for name in ("memory_bytes", "memory_peak_bytes"):
            if name in now:
                fields[name] = f"{now[name] / 2**20:,.1f} MiB"
        series = (
            {"memory": now["memory_bytes"] / 2**20, "cpu_seconds": now["cpu_seconds"], "pids": now["pids"]}
            if now
            else {}
        )
        return JsonResponse({"fields": fields, "series": series, "done": row.status == ContainerStatus.REMOVED})

    def figures_view(self, request: HttpRequest) -> HttpResponse:
        """Of up to FIGURES containers, named by `name`, for the list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        names = request.GET.getlist("name")[:FIGURES]
        found = {row.pk: inspection.figures(row) for row in self.get_queryset(request).filter(pk__in=names)}
        return JsonResponse({"containers": {name: values for name, values in found.items() if values}})

    @admin.display(description="Container")
    def short_id(self, container: Container) -> str:
        """As the API names it."""
        return str(container)

    @admin.display(description="Status")
    def state(self, container: Container) -> SafeString:
        """In colour."""
        return badge(container.status)

    @admin.display(description="Session")
    def session_link(self, container: Container) -> SafeString | str:
        """To its page."""
        return link(getattr(container, "session", None))

    @admin.display(description="Age")
    def age(self, container: Container) -> SafeString | str:
        """Since it was asked for."""
        return moment(container.created_at)

    @admin.display(description="CPU now")
    def cpu_now(self, container: Container) -> SafeString | str:
        """Filled in by the page: see live.js."""
        return _now(container, "cpu", f"of {container.cpu}")

    @admin.display(description="Memory now")
    def memory_now(self, container: Container) -> SafeString | str:
        """Filled in by the page: see live.js."""
        return _now(container, "memory", f"of {container.memory}")


def _now(container: Container, what: str, limit: str) -> SafeString | str:
    if container.status not in inspection.UP:
        return "–"
    cell = '<span data-figure="{}" data-of="{}">…</span> <span class="quiet">{}</span>'
    return format_html(cell, what, container.pk, limit)
