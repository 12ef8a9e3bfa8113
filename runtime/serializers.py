"""Containers in the API's words."""

from __future__ import annotations

import datetime as dt
from typing import Any

from rest_framework import serializers

from runtime.models import Container, ContainerStatus
from templates_app.serializers import ResourcesOut


class ContainerOut(serializers.ModelSerializer):
    """A container."""

    container_id = serializers.SerializerMethodField(
        help_text="The engine's id in its short form; null until it exists."
    )
    runtime_node = serializers.CharField(source="node_id", help_text="The node that it runs on.")
    session_id = serializers.SerializerMethodField(help_text="The session that it serves; null in the idle pool.")
    resources = ResourcesOut(source="*", help_text="Its limits.")
    uptime_seconds = serializers.SerializerMethodField(help_text="From its start to now, or to its end.")

    class Meta:
        model = Container
        fields = (
            "container_id", "runtime_type", "runtime_node", "status", "session_id", "template_id", "resources", "isolation",
            "limits_enforced", "created_at", "started_at", "ended_at", "uptime_seconds",
        )  # fmt: skip
        extra_kwargs = {
            "isolation": {"help_text": "What was attested after the start."},
            "limits_enforced": {"help_text": "How each limit is enforced."},
        }

    def get_container_id(self, container: Container) -> str | None:
        """12 digits."""
        return container.ref[:12] if container.ref else None

    def get_session_id(self, container: Container) -> str | None:
        """By the reverse relation."""
        session = getattr(container, "session", None)
        return session.pk if session else None

    def get_uptime_seconds(self, container: Container) -> int:
        """Whole seconds."""
        if container.started_at is None:
            return 0
        end = container.ended_at or dt.datetime.now(dt.UTC)
        return max(0, int((end - container.started_at).total_seconds()))


class ContainerList(serializers.Serializer):
    """A page of containers."""

    containers = ContainerOut(many=True)
    total = serializers.IntegerField(help_text="How many match in all.")


class StatsOut(serializers.Serializer):
    """Figures of a moment."""

    cpu_seconds = serializers.FloatField(help_text="Processor time since the start.")
    memory_bytes = serializers.IntegerField(help_text="In use now.")
    memory_peak_bytes = serializers.IntegerField(help_text="The most so far.")
    pids = serializers.IntegerField(help_text="Processes and threads now.")
    oom_kills = serializers.IntegerField(help_text="Processes killed for want of memory so far.")


STATUSES = ContainerStatus.values


def as_stats(stats: Any) -> dict[str, Any]:
    """A driver's figures as an answer."""
    return StatsOut(stats).data
