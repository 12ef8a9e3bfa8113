"""A Session is a tenant's intention to have a sandbox for a time."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now

from runtime.models import Container, Node, RuntimeType
from sandbox_platform import crypto, ids
from sandbox_platform.models import Project
from sandbox_platform.states import Arrows, StateModel
from templates_app.models import Network, Template, TemplateVersion


class SessionStatus(models.TextChoices):
    """Of a Session."""

    CREATING = "creating"
    RUNNING = "running"
    TERMINATED = "terminated"
    FAILED = "failed"
    TIMEOUT = "timeout"


class Reason(models.TextChoices):
    """Why a session ended: a closed list, see `STATUS_OF`."""

    TERMINATED_BY_CLIENT = "terminated_by_client"
    TERMINATED_BY_OPERATOR = "terminated_by_operator"
    IDLE = "idle"
    EXPIRED = "expired"
    MAX_LIFETIME = "max_lifetime"
    START_FAILED = "start_failed"
    IMAGE_UNAVAILABLE = "image_unavailable"
    OOM_KILLED = "oom_killed"
    DISK_FULL = "disk_full"
    CONTAINER_LOST = "container_lost"
    NODE_LOST = "node_lost"
    RUNTIME_ERROR = "runtime_error"


# The final status that each reason stands for.
STATUS_OF: dict[str, SessionStatus] = {
    Reason.TERMINATED_BY_CLIENT: SessionStatus.TERMINATED,
    Reason.TERMINATED_BY_OPERATOR: SessionStatus.TERMINATED,
    Reason.IDLE: SessionStatus.TERMINATED,
    Reason.EXPIRED: SessionStatus.TIMEOUT,
    Reason.MAX_LIFETIME: SessionStatus.TIMEOUT,
}
ENDED = (SessionStatus.TERMINATED, SessionStatus.FAILED, SessionStatus.TIMEOUT)


class LabelValue(models.Func):
    """The value of one label, whatever its name: Django's own key transforms split at `__` and take digits for an index."""

    output_field = models.TextField()
    arity = 2
    template = "(SELECT value FROM json_each(%(expressions)s))"
    arg_joiner = ") WHERE key = ("

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """With a cast: PostgreSQL could not tell a name from an index."""
        return self.as_sql(compiler, connection, template="(%(expressions)s::text))", arg_joiner=" ->> (", **context)


class Session(StateModel):
    """A sandbox of a project's own, for a time.

    creating -> running -> terminated | failed | timeout, and creating -> failed | terminated.
    `closing` is set when a running session has reached its end but still has runs: it takes no more, and ends with the last one.
    `released_at` is set once all that an ended session held (sandbox, disk) is given back and its files are saved.
    `active_runs` counts its executions in `running`; it changes in the transaction that changes them.
    """

    ARROWS: ClassVar[Arrows] = {
        SessionStatus.CREATING: frozenset({SessionStatus.RUNNING, SessionStatus.FAILED, SessionStatus.TERMINATED}),
        SessionStatus.RUNNING: frozenset({SessionStatus.TERMINATED, SessionStatus.FAILED, SessionStatus.TIMEOUT}),
        SessionStatus.TERMINATED: frozenset(),
        SessionStatus.FAILED: frozenset(),
        SessionStatus.TIMEOUT: frozenset(),
    }

    id = models.CharField(primary_key=True, max_length=32, default=ids.session_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="sessions")
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="sessions")
    version = models.ForeignKey(
        TemplateVersion, null=True, on_delete=models.SET_NULL, related_name="+", editable=False,
        help_text="Of the template, where it is tried before it is published.",
    )  # fmt: skip
    status = models.CharField(max_length=10, choices=SessionStatus.choices, default=SessionStatus.CREATING)
    status_reason = models.CharField(max_length=32, choices=Reason.choices, blank=True)
    status_detail = models.TextField(blank=True)
    runtime_type = models.CharField(max_length=20, choices=RuntimeType.choices)
    workspace_from = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        editable=False,
        help_text="Whose files it started with.",
    )
    node = models.ForeignKey(Node, null=True, blank=True, on_delete=models.PROTECT, related_name="sessions")
    container = models.OneToOneField(Container, null=True, blank=True, on_delete=models.PROTECT, related_name="session")
    timeout = models.PositiveIntegerField(help_text="Seconds from the moment it runs.")
    cpu = models.CharField(max_length=16)
    memory = models.CharField(max_length=16)
    disk = models.CharField(max_length=16)
    cpu_millis = models.PositiveIntegerField(default=0, editable=False, help_text="`cpu` as a number, for admission.")
    memory_bytes = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="`memory` as a number, for admission."
    )
    disk_bytes = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="`disk` as a number, for admission."
    )
    network = models.CharField(max_length=10, choices=Network.choices, default=Network.NONE)
    allowed_hosts = models.JSONField(default=list, blank=True, help_text="What it may reach: empty without a network.")
    max_concurrency = models.PositiveSmallIntegerField(default=4)
    labels = models.JSONField(default=dict, blank=True)
    env_names = models.JSONField(default=list, blank=True)
    env_sealed = models.BinaryField(default=b"", blank=True, editable=False)
    active_runs = models.PositiveIntegerField(default=0, editable=False)
    closing = models.CharField(max_length=32, choices=Reason.choices, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True, editable=False)
    last_activity_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)
    files_saved_at = models.DateTimeField(null=True, editable=False)
    released_at = models.DateTimeField(null=True, editable=False)
    purge = models.BooleanField(default=False, editable=False, help_text="Erase files and outputs at the end.")

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["project", "-created_at"]),
            models.Index(fields=["project", "status", "-created_at"]),
            models.Index(fields=["status", "expires_at"]),
            models.Index(fields=["released_at", "ended_at"]),
            models.Index(fields=["node", "released_at"]),
            models.Index(fields=["-created_at"]),
            models.Index(fields=["status", "-created_at"]),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def ended(self) -> bool:
        """True in a final state."""
        return self.status in ENDED

    @property
    def env_vars(self) -> dict[str, str]:
        """Decrypted: for a run, never for an answer, a log or the admin."""
        return crypto.unseal(self.env_sealed)

    @property
    def topic(self) -> str:
        """What wakes those who wait for a change of this session."""
        return f"session:{self.pk}"


class StoredFile(models.Model):
    """A workspace file that the storage has acknowledged, as it was in the sandbox when it was copied."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="stored_files")
    path = models.TextField(help_text="In the workspace.")
    name = models.TextField(help_text="In the storage.")
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    mtime = models.FloatField(help_text="Seconds since 1970, by the sandbox's clock.")
    etag = models.CharField(max_length=200, help_text="The sandbox's: while it is the same, the copy is current.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session", "path"], name="one_copy_a_path")]

    def __str__(self) -> str:
        return self.name


class PendingUpload(models.Model):
    """A URL that was given out to upload to: what came by it waits in the storage to be brought into the workspace, or may yet come."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="pending_uploads")
    name = models.CharField(max_length=200, unique=True, help_text="In the storage.")
    size = models.PositiveBigIntegerField(
        default=0, help_text="Bytes that have come or are coming, where they come by us."
    )
    until = models.DateTimeField(help_text="When it counts no more.")

    def __str__(self) -> str:
        return self.name


class Owed(models.TextChoices):
    """What a storage debt is about, each more urgent than the one before."""

    COPY = "copy", "What a run changed"
    SAVE = "save", "All of an ended session"
    ERASE = "erase", "The stored files are to go"


class StorageDebt(models.Model):
    """What the storage still has to acknowledge of a session. Gone once that is done.

    Until then an ended session keeps its sandbox, WORKSPACE_SAVE_PATIENCE at the most: past it the files that are not in storage
    count as lost (`lost_at`), and the row stays for the operator to see. `generation` rises with each change that is to be copied, so
    that one who pays for an older state does not strike out a newer one. `taker` is the process that is at it.
    """

    session = models.OneToOneField(Session, primary_key=True, on_delete=models.CASCADE, related_name="storage_debt")
    what = models.CharField(max_length=5, choices=Owed.choices)
    since = models.DateTimeField(db_default=Now())
    generation = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(db_default=Now())
    error = models.TextField(blank=True, help_text="Of the latest attempt.")
    taker = models.UUIDField(null=True, editable=False)
    lost_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["since"]
        indexes = [models.Index(fields=["lost_at", "next_try_at"])]

    def __str__(self) -> str:
        return f"{self.session_id}: {self.get_what_display()}"
