"""A Template describes an environment; a TemplateImage is that description made ready for one kind of runtime."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models

from sandbox_platform.states import Arrows, StateModel

SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z", "Lower-case letters, digits and inner hyphens, 63 at most."
)
LANGUAGES = ("python", "javascript", "shell")


def default_languages() -> list[str]:
    """Every template has Python and a shell."""
    return ["python", "shell"]


class TemplateQuerySet(models.QuerySet):
    """Templates by what may be done with them."""

    def visible(self) -> TemplateQuerySet:
        """Those that the API shows."""
        return self.filter(deleted_at=None)


class Template(models.Model):
    """What sessions start from. Packages and languages decide the image; the rest are defaults."""

    id = models.CharField(primary_key=True, max_length=63, validators=[SLUG])
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    image = models.CharField(max_length=255, help_text="The name that the built image gets.")
    base_image = models.CharField(max_length=255, default="python:3.11-slim")
    languages = models.JSONField(default=default_languages)
    pre_installed_packages = models.JSONField(
        default=list, blank=True, help_text='Python requirements: ["numpy>=1.24"]'
    )
    preload = models.JSONField(default=list, blank=True, help_text='Modules imported once per sandbox: ["numpy"]')
    cpu = models.CharField(max_length=16, default="1")
    memory = models.CharField(max_length=16, default="512Mi")
    disk = models.CharField(max_length=16, default="1Gi")
    warm_pool_size = models.PositiveSmallIntegerField(
        default=0,
        help_text="Sandboxes kept ready on each node: a session with the default resources starts in no time.",
    )
    figures = models.BooleanField(
        default=False, help_text="Matplotlib figures left open at the end of a run become PNG artifacts."
    )
    oci_runtime = models.CharField(max_length=32, default="runc", help_text="runc, or runsc for gVisor. Docker only.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deprecated_at = models.DateTimeField(null=True, blank=True, help_text="Takes no new sessions from then on.")
    deleted_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Hidden; the row stays for the sessions that had it."
    )

    objects = TemplateQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def default_resources(self) -> dict[str, str]:
        """In the API's words."""
        return {"cpu": self.cpu, "memory": self.memory, "disk": self.disk}


class ImageStatus(models.TextChoices):
    """Of a TemplateImage."""

    PENDING = "pending"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


class TemplateImage(StateModel):
    """A template made ready for one kind of runtime.

    pending -> building -> ready | failed; ready | failed -> pending (built anew). While a new one is made, `ref` keeps the last good one.
    `ref` is what the driver takes as image: an image id for Docker, a folder for bubblewrap.
    """

    ARROWS: ClassVar[Arrows] = {
        ImageStatus.PENDING: frozenset({ImageStatus.BUILDING}),
        ImageStatus.BUILDING: frozenset({ImageStatus.READY, ImageStatus.FAILED, ImageStatus.PENDING}),
        ImageStatus.READY: frozenset({ImageStatus.PENDING}),
        ImageStatus.FAILED: frozenset({ImageStatus.PENDING}),
    }

    template = models.ForeignKey(Template, on_delete=models.CASCADE, related_name="images")
    runtime_type = models.CharField(max_length=20)
    status = models.CharField(max_length=10, choices=ImageStatus.choices, default=ImageStatus.PENDING)
    ref = models.CharField(max_length=500, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True, help_text="Hash of all that went into it.")
    detail = models.TextField(blank=True, help_text="What is being done, or what went wrong.")
    builder = models.UUIDField(null=True, blank=True, help_text="The process that builds it.")
    attempts = models.PositiveSmallIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["template", "runtime_type"], name="one_image_per_runtime")]

    def __str__(self) -> str:
        return f"{self.template_id} for {self.runtime_type}"
