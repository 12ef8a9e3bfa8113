"""A Template describes an environment; a TemplateImage is that description made ready for one kind of runtime."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now

from sandbox_platform.states import Arrows, StateModel

SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z", "Lower-case letters, digits and inner hyphens, 63 at most."
)
LANGUAGES = ("python", "javascript", "shell")
OCI_RUNTIMES = ("runc", "runsc")


def default_languages() -> list[str]:
    """Every template has Python and a shell."""
    return ["python", "shell"]


class Network(models.TextChoices):
    """What of the outside a sandbox may reach."""

    NONE = "none", "no network"
    ALLOWLIST = "allowlist", "the allowed hosts"


class TemplateQuerySet(models.QuerySet):
    """Templates by what may be done with them."""

    def visible(self) -> TemplateQuerySet:
        """Those that the API shows."""
        return self.filter(deleted_at=None, draft=False)

    def kept(self) -> TemplateQuerySet:
        """Those that operators see: drafts too."""
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
    npm_packages = models.JSONField(default=list, blank=True, help_text='Packages for JavaScript: ["lodash@4.17.21"]')
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
    network = models.CharField(
        max_length=10,
        choices=Network.choices,
        default=Network.NONE,
        help_text="none, or allowlist: through a proxy, the hosts below and nothing else. A session may ask for less, never for more.",
    )
    allowed_hosts = models.JSONField(
        default=list, blank=True, help_text='Of an allowlist: ["pypi.org", "*.example.com", "api.example.com:8443"]'
    )
    oci_runtime = models.CharField(max_length=32, default="runc", help_text="runc, or runsc for gVisor. Docker only.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    draft = models.BooleanField(
        default=False, editable=False, help_text="Never published: operators see it, the API does not."
    )
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
    def hosts(self) -> list[str]:
        """What its sessions may reach: nothing where it has no network."""
        return list(self.allowed_hosts) if self.network == Network.ALLOWLIST else []

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


class VersionStatus(models.TextChoices):
    """Of a TemplateVersion."""

    DRAFT = "draft"
    PUBLISHED = "published"
    RETIRED = "retired"


# Columns of a template that say where it is in its life rather than what it is.
NOT_IN_SPEC = frozenset({"id", "created_at", "updated_at", "deprecated_at", "deleted_at", "draft"})


class TemplateVersion(models.Model):
    """What a template said at some time: `spec` has every column that decides what its sessions get.

    draft -> published -> retired -> published ... One version of a template is published: its spec is the template's own row.
    A version that is published again after another one is a roll-back.
    """

    template = models.ForeignKey(Template, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    spec = models.JSONField()
    status = models.CharField(max_length=10, choices=VersionStatus.choices, default=VersionStatus.DRAFT)
    note = models.CharField(max_length=200, blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+",
        help_text="Nobody where it came through the API or from a file.",
    )  # fmt: skip
    created_at = models.DateTimeField(db_default=Now())
    published_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["template", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"{self.template_id} v{self.number}"

    def as_template(self) -> Template:
        """The template as this version has it; what was not known at its time is at its default. Not saved, and not to be."""
        known = {field.name for field in Template._meta.concrete_fields}
        return Template(pk=self.template_id, **{name: value for name, value in self.spec.items() if name in known})


class BuildStatus(models.TextChoices):
    """Of a TemplateBuild."""

    QUEUED = "queued"
    BUILDING = "building"
    TESTING = "testing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TemplateBuild(StateModel):
    """One attempt to make a version ready for one kind of runtime, with its log.

    queued -> building | failed | cancelled; building -> testing | failed | cancelled; testing -> succeeded | failed | cancelled.
    """

    ARROWS: ClassVar[Arrows] = {
        BuildStatus.QUEUED: frozenset({BuildStatus.BUILDING, BuildStatus.CANCELLED, BuildStatus.FAILED}),
        BuildStatus.BUILDING: frozenset({BuildStatus.TESTING, BuildStatus.FAILED, BuildStatus.CANCELLED}),
        BuildStatus.TESTING: frozenset({BuildStatus.SUCCEEDED, BuildStatus.FAILED, BuildStatus.CANCELLED}),
        BuildStatus.SUCCEEDED: frozenset(),
        BuildStatus.FAILED: frozenset(),
        BuildStatus.CANCELLED: frozenset(),
    }

    version = models.ForeignKey(TemplateVersion, on_delete=models.CASCADE, related_name="builds")
    runtime_type = models.CharField(max_length=20)
    status = models.CharField(max_length=10, choices=BuildStatus.choices, default=BuildStatus.QUEUED)
    log = models.TextField(blank=True)
    ref = models.CharField(max_length=500, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)
    digest = models.CharField(max_length=80, blank=True)
    packages = models.JSONField(default=list, help_text='Frozen: ["numpy==2.1.0", "lodash@4.17.21"].')
    size_bytes = models.PositiveBigIntegerField(default=0)
    smoke = models.JSONField(
        default=list, help_text="What the smoke test asked, and what came: [name, passed, detail]."
    )
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    builder = models.UUIDField(null=True, help_text="The process that builds it.")
    cancel_requested_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["status", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.version} for {self.runtime_type}"

    @property
    def done(self) -> bool:
        """True in a final state."""
        return self.status in (BuildStatus.SUCCEEDED, BuildStatus.FAILED, BuildStatus.CANCELLED)
