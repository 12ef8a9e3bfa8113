"""A Node is a place that runs sandboxes; a Container is one sandbox there."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from sandbox_platform import ids
from sandbox_platform.states import Arrows, StateModel
from templates_app.models import Template, TemplateVersion


class RuntimeType(models.TextChoices):
    """Kinds of driver."""

    DOCKER = "docker"
    BUBBLEWRAP = "bubblewrap"


class NodeQuerySet(models.QuerySet):
    """Nodes by what they can do."""

    def schedulable(self) -> NodeQuerySet:
        """Those that take new sessions."""
        return self.filter(enabled=True, ready=True)


class Node(models.Model):
    """An engine that sandboxes run on. `ready` is what its last probe said; `enabled` is the operator's word."""

    name = models.CharField(primary_key=True, max_length=63)
    runtime_type = models.CharField(max_length=20, choices=RuntimeType.choices)
    url = models.CharField(max_length=255, blank=True, help_text="Of the engine, where it is not the local default.")
    enabled = models.BooleanField(default=True)
    ready = models.BooleanField(default=False, editable=False)
    detail = models.TextField(blank=True, editable=False)
    cpu_millis = models.PositiveIntegerField(default=0, help_text="What the host has, in thousandths of a core.")
    memory_bytes = models.PositiveBigIntegerField(default=0)
    disk_bytes = models.PositiveBigIntegerField(
        default=0, help_text="Of the file system that the workspaces lie on, whatever else is on it."
    )
    max_sessions = models.PositiveIntegerField(default=200, help_text="Live sessions at the most.")
    cpu_overcommit = models.FloatField(default=8.0, help_text="Promised cores may be this many times the host's.")
    memory_overcommit = models.FloatField(default=1.0, help_text="Promised memory may be this many times the host's.")
    disk_overcommit = models.FloatField(
        default=4.0,
        help_text="Promised disk may be this many times the host's: workspaces take what is written, no more.",
    )
    failed_probes = models.PositiveSmallIntegerField(default=0, editable=False)
    probed_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = NodeQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.runtime_type})"


class EgressCount(models.Model):
    """How many requests of a template's sandboxes the proxy has dealt with, by what became of them. For /metrics; it only grows."""

    template_id = models.CharField(max_length=63)
    verdict = models.CharField(max_length=10, help_text="allowed, denied or failed")
    count = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["template_id", "verdict"], name="one_egress_count")]

    def __str__(self) -> str:
        return f"{self.template_id} {self.verdict}: {self.count}"


class ContainerStatus(models.TextChoices):
    """Of a Container."""

    CREATING = "creating"
    WARM = "warm"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    LOST = "lost"
    REMOVED = "removed"


class Container(StateModel):
    """A sandbox on a node.

    creating -> warm | running | stopping | lost | removed; warm -> running | stopping | exited | lost; running -> stopping | exited | lost;
    stopping | exited | lost -> removed. `exited` and `lost` are what the engine says happened; `stopping` is what we want.
    """

    ARROWS: ClassVar[Arrows] = {
        ContainerStatus.CREATING: frozenset(
            {
                ContainerStatus.WARM,
                ContainerStatus.RUNNING,
                ContainerStatus.STOPPING,
                ContainerStatus.LOST,
                ContainerStatus.REMOVED,
            }
        ),
        ContainerStatus.WARM: frozenset(
            {ContainerStatus.RUNNING, ContainerStatus.STOPPING, ContainerStatus.EXITED, ContainerStatus.LOST}
        ),
        ContainerStatus.RUNNING: frozenset({ContainerStatus.STOPPING, ContainerStatus.EXITED, ContainerStatus.LOST}),
        ContainerStatus.STOPPING: frozenset({ContainerStatus.REMOVED}),
        ContainerStatus.EXITED: frozenset({ContainerStatus.STOPPING, ContainerStatus.REMOVED}),
        ContainerStatus.LOST: frozenset({ContainerStatus.STOPPING, ContainerStatus.REMOVED}),
        ContainerStatus.REMOVED: frozenset(),
    }

    name = models.CharField(primary_key=True, max_length=40, default=ids.sandbox_name, editable=False)
    ref = models.CharField(max_length=64, null=True, unique=True, editable=False, help_text="The engine's own id.")  # noqa: DJ001
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="containers")
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="containers")
    version = models.ForeignKey(
        TemplateVersion, null=True, on_delete=models.SET_NULL, related_name="+",
        help_text="Of the template, where it is tried before it is published.",
    )  # fmt: skip
    runtime_type = models.CharField(max_length=20, choices=RuntimeType.choices)
    status = models.CharField(max_length=10, choices=ContainerStatus.choices, default=ContainerStatus.CREATING)
    image = models.CharField(max_length=500)
    cpu = models.CharField(max_length=16)
    memory = models.CharField(max_length=16)
    disk = models.CharField(max_length=16)
    slots = models.PositiveSmallIntegerField(default=4)
    socket = models.CharField(max_length=500, blank=True)
    isolation = models.JSONField(default=dict, blank=True)
    limits_enforced = models.JSONField(default=dict, blank=True)
    egress = models.BooleanField(
        default=False, help_text="Its executor has the port that leads to the proxy; whose list it is says its session."
    )
    start_hash = models.CharField(
        max_length=64, blank=True, editable=False,
        help_text="Of what it is started with beside image, limits and network: a warm one of another is stale.",
    )  # fmt: skip
    maker = models.UUIDField(null=True, editable=False, help_text="The process that makes it, while it is creating.")
    detail = models.TextField(blank=True)
    log_tail = models.TextField(blank=True, help_text="The end of the executor's log, kept when the sandbox goes.")
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["status", "-created_at"]),
            models.Index(fields=["-created_at"]),
        ]

    def __str__(self) -> str:
        return self.ref[:12] if self.ref else self.name
