"""Tenants and their keys, remembered answers, and the processes of this installation."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from sandbox_platform import ids

SCOPES = {
    "templates:write": "Create, change and delete templates",
    "containers:read_all": "See the containers of every project and the idle pool",
}


class Project(models.Model):
    """A tenant. Every row of a tenant hangs on one; another project's ids answer exactly as unknown ids do."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """An access token of a project: `sbx_<prefix>_<secret>`. Only the SHA-256 of the whole is kept; it is shown once."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(default=list, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE,
        help_text="A key of a deactivated user is refused.",
    )  # fmt: skip
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} (sbx_{self.prefix}_…)"

    @classmethod
    def issue(cls, project: Project, name: str, **fields: object) -> tuple[Self, str]:
        """A new key and its token, which nobody can show again."""
        key = cls(project=project, name=name, **fields)
        token = key.new_token()
        key.save(force_insert=True)
        return key, token

    def new_token(self) -> str:
        """A token for a row that is not saved yet."""
        self.prefix = ids.tail(12)
        token = f"sbx_{self.prefix}_{secrets.token_urlsafe(32)}"
        self.digest = sha256(token)
        return token

    def matches(self, token: str) -> bool:
        """Constant-time comparison."""
        return hmac.compare_digest(self.digest, sha256(token))


def sha256(token: str) -> str:
    """Hex digest. A token has 256 random bits: a slow hash would add nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class IdempotencyRecord(models.Model):
    """The first answer to a POST that carried an Idempotency-Key. Written in the transaction of what it guards."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=300)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    headers = models.JSONField(default=dict)
    body = models.TextField(default="")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "method", "path", "key"], name="one_answer_per_idempotency_key")
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.key}"


class Process(models.Model):
    """A web or worker process of this installation. Its heartbeat stands for all the leases that it holds.

    `beats` rises every second or two. An observer that saw it unchanged for `PROCESS_STALE_AFTER` seconds of its own monotonic
    clock sets `dead_at`; what the process held may then be taken over. No wall clock is compared.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    kind = models.CharField(max_length=40)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    beats = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField(db_default=Now())
    dead_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-started_at"]
        verbose_name_plural = "processes"
        indexes = [models.Index(fields=["dead_at", "started_at"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.pid} on {self.host}"
