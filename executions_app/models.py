"""An Execution is one run of code in a session."""

from __future__ import annotations

from typing import ClassVar

from cryptography.fernet import InvalidToken
from django.db import models
from django.db.models.functions import Now

from sandbox_platform import crypto, ids
from sandbox_platform.models import Project
from sandbox_platform.states import Arrows, StateModel
from sessions_app.models import Session


class ExecutionStatus(models.TextChoices):
    """Of an Execution."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"


FINAL = (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT)


class Language(models.TextChoices):
    """What code may be written in."""

    PYTHON = "python"
    JAVASCRIPT = "javascript"
    SHELL = "shell"


class Execution(StateModel):
    """One run of code.

    pending -> running -> completed | failed | timeout, and pending -> failed (cancelled, or its session ended first).
    While it runs, `driver` names the process that follows it; when that process is dead, another takes over and reattaches by id.
    JSON of the tenant (`event`, `return_value`) is kept as text: a database's own JSON type would change numbers and refuse NUL.
    """

    ARROWS: ClassVar[Arrows] = {
        ExecutionStatus.PENDING: frozenset({ExecutionStatus.RUNNING, ExecutionStatus.FAILED}),
        ExecutionStatus.RUNNING: frozenset(
            {ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT}
        ),
        ExecutionStatus.COMPLETED: frozenset(),
        ExecutionStatus.FAILED: frozenset(),
        ExecutionStatus.TIMEOUT: frozenset(),
    }

    id = models.CharField(primary_key=True, max_length=40, default=ids.execution_id, editable=False)
    number = models.BigIntegerField(default=0, editable=False, help_text="Order within its session.")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="executions", db_index=False)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="executions", db_index=False)
    status = models.CharField(max_length=10, choices=ExecutionStatus.choices, default=ExecutionStatus.PENDING)
    language = models.CharField(max_length=12, choices=Language.choices)
    code = models.TextField()
    event = models.TextField(default="{}", help_text="JSON text.")
    stdin = models.BinaryField(null=True)
    args = models.JSONField(default=list, blank=True)
    env_sealed = models.BinaryField(default=b"", blank=True, editable=False)
    working_directory = models.CharField(max_length=1024, blank=True)
    timeout = models.PositiveIntegerField(help_text="Seconds from the start of the run.")
    retry_lost = models.BooleanField(default=False)
    request_id = models.CharField(max_length=128, blank=True)

    driver = models.UUIDField(null=True, editable=False, help_text="The process that follows it.")
    attempt = models.PositiveSmallIntegerField(default=1, editable=False)
    takeovers = models.PositiveSmallIntegerField(
        default=0, editable=False, help_text="How often another process went on with it."
    )
    cancel_requested_at = models.DateTimeField(null=True, editable=False)

    stdout = models.BinaryField(default=b"", editable=False)
    stderr = models.BinaryField(default=b"", editable=False)
    stdout_omitted = models.PositiveBigIntegerField(default=0, editable=False)
    stderr_omitted = models.PositiveBigIntegerField(default=0, editable=False)
    exit_code = models.IntegerField(null=True, editable=False)
    return_value = models.TextField(null=True, editable=False, help_text="JSON text.")  # noqa: DJ001
    error = models.JSONField(null=True, editable=False, help_text="error_code, type, message, traceback.")
    duration_ms = models.FloatField(null=True, editable=False)
    cpu_time_ms = models.FloatField(null=True, editable=False)
    peak_memory_mb = models.FloatField(null=True, editable=False)
    artifacts = models.JSONField(default=list, editable=False)
    artifacts_truncated = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-created_at", "-id"]
        # Each run writes to all of these, twice. Those that begin with a foreign key serve as its own.
        indexes = [
            models.Index(fields=["session", "status", "number"]),
            models.Index(fields=["session", "-created_at"]),
            models.Index(fields=["status", "driver"]),
            models.Index(fields=["-created_at"]),
            # For the console: lists by status and by project, newest first, and the day of the dashboard.
            models.Index(fields=["status", "-created_at"]),
            models.Index(fields=["project", "-created_at"]),
            # All that the dashboard's histogram reads: a day of it is answered from the index alone.
            models.Index(fields=["completed_at", "status", "duration_ms"]),
            models.Index(
                models.F("error__error_code"),
                models.F("created_at").desc(),
                name="execution_by_fault",
                condition=models.Q(status__in=["failed", "timeout"]),
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def done(self) -> bool:
        """True in a final state."""
        return self.status in FINAL

    @property
    def env_vars(self) -> dict[str, str]:
        """The session's variables with the run's own over them. Decrypted: for the run alone."""
        return {**self.session.env_vars, **crypto.unseal(self.env_sealed)}

    @property
    def env_names(self) -> list[str] | None:
        """Of the run's own variables; None where they can't be read since the secret key was changed."""
        try:
            return sorted(crypto.unseal(self.env_sealed))
        except InvalidToken:
            return None

    @property
    def run_id(self) -> str:
        """Under which the executor knows this attempt."""
        return self.pk if self.attempt == 1 else f"{self.pk}-{self.attempt}"

    @property
    def topic(self) -> str:
        """What wakes those who wait for the end."""
        return topic_of(self.pk)


def topic_of(pk: str) -> str:
    """What wakes those who wait for the execution of that id, whether there is one or not."""
    return f"execution:{pk}"
