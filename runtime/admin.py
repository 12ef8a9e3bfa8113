"""Nodes and containers: inspection by operators."""

from __future__ import annotations

import json

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from runtime.drivers.errors import DriverError
from runtime.models import Container, ContainerStatus, Node
from runtime.services.nodes import driver_of
from sandbox_platform.admin_base import WatchedAdmin, link, pre


@admin.register(Node)
class NodeAdmin(admin.ModelAdmin):
    """Engines. `enabled` is the operator's word; the rest is probed."""

    list_display = ["name", "runtime_type", "enabled", "ready", "detail", "probed_at"]
    readonly_fields = [
        "runtime_type",
        "url",
        "ready",
        "detail",
        "cpu_millis",
        "memory_bytes",
        "probed_at",
        "created_at",
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A node registers itself when its service starts."""
        return False


@admin.register(Container)
class ContainerAdmin(WatchedAdmin):
    """Sandboxes: what was asked for, what was attested, what they say."""

    list_display = ["short_id", "status", "session_link", "template", "node", "memory", "created_at", "ended_at"]
    list_filter = ["status", "runtime_type", "node", "template"]
    list_select_related = ["session", "template", "node"]
    search_fields = ["ref__startswith", "name", "session__id"]
    fields = [
        "short_id", "ref", "name", "status", "detail", "session_link", "node", "template", "image", "runtime_type",
        ("cpu", "memory", "disk", "slots"), "attested", "enforced", "log", "created_at", "started_at", "ended_at",
    ]  # fmt: skip

    @admin.display(description="Container", ordering="ref")
    def short_id(self, container: Container) -> str:
        """As the API names it."""
        return str(container)

    @admin.display(description="Session")
    def session_link(self, container: Container) -> SafeString | str:
        """To its page."""
        return link(getattr(container, "session", None))

    @admin.display(description="Isolation, as attested")
    def attested(self, container: Container) -> SafeString:
        """Formatted."""
        return pre(json.dumps(container.isolation, indent=1, sort_keys=True))

    @admin.display(description="Limits, and how they are enforced")
    def enforced(self, container: Container) -> SafeString:
        """Formatted."""
        return pre(json.dumps(container.limits_enforced, indent=1, sort_keys=True))

    @admin.display(description="Log of the executor")
    def log(self, container: Container) -> SafeString:
        """Of this moment, or what was kept of it."""
        if container.status not in (ContainerStatus.RUNNING, ContainerStatus.WARM):
            return pre(container.log_tail)
        try:
            return pre(driver_of(container.node).logs(container.name, tail=200))
        except DriverError as error:
            return pre(f"Not available: {error}")

    def has_change_permission(self, request: HttpRequest, obj: Container | None = None) -> bool:
        """They are ended through their sessions."""
        return False
