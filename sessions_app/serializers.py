"""Sessions and files in the API's words."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from sandbox_platform.fields import EnvVars, FlatMap, StrictInteger, StrictSerializer, Text
from sessions_app.models import Session
from sessions_app.services import workspace
from templates_app.models import Network
from templates_app.serializers import AllowedHosts, ResourcesOut, ResourcesSerializer


class SessionIn(StrictSerializer):
    """A session as it is created."""

    template_id = Text(max_length=200, help_text="One of GET /templates.")
    timeout = StrictInteger(
        default=300, min_value=60, max_value=3600, help_text="Seconds of life from the moment it runs: 60 to 3600."
    )
    resources = ResourcesSerializer(required=False, help_text="Each defaults to the template's.")
    env_vars = EnvVars(required=False, help_text="For user code. Write-only: reads show the names alone.")
    labels = FlatMap(
        most=64, value_bytes=1024, total_bytes=16384, required=False, help_text="A flat map of strings, to filter by."
    )
    max_concurrency = StrictInteger(
        default=4, min_value=1, max_value=16, help_text="Runs that may overlap; further ones wait."
    )
    network = serializers.ChoiceField(
        Network.choices,
        required=False,
        help_text="The template's unless `none` is asked for; `allowlist` only where the template has one.",
    )
    allowed_hosts = AllowedHosts(
        required=False,
        min_length=1,
        help_text="A part of the template's hosts, for this session alone; more than those is 400.",
    )
    workspace_from = Text(
        required=False, max_length=100,
        help_text="Start with a copy of this session's files: one of your project, live or ended within the last 24 h.",
    )  # fmt: skip


class SessionPatch(StrictSerializer):
    """What may be changed."""

    timeout = StrictInteger(min_value=60, max_value=3600, help_text="Seconds from now.")


class SessionOut(serializers.ModelSerializer):
    """A session."""

    session_id = serializers.CharField(source="id", help_text="sess_ and 16 places.")
    template_id = serializers.CharField(help_text="The template that it started from.")
    runtime_node = serializers.SerializerMethodField(help_text="The node that it runs on; null until it has one.")
    container_id = serializers.SerializerMethodField(help_text="The container's short id; null until it exists.")
    workspace_path = serializers.SerializerMethodField(help_text="The URL of its files.")
    resources = ResourcesOut(source="*", help_text="Its limits.")
    env_vars = serializers.ListField(source="env_names", child=serializers.CharField(), help_text="The names alone.")
    allowed_hosts = serializers.ListField(child=serializers.CharField(), help_text="What it may reach.")
    status_reason = serializers.SerializerMethodField(
        help_text="Why it ended, from a closed list; null while it lives."
    )
    isolation = serializers.SerializerMethodField(help_text="What was attested of its sandbox.")
    limits_enforced = serializers.SerializerMethodField(help_text="How each limit is enforced.")

    class Meta:
        model = Session
        fields = (
            "session_id", "status", "status_reason", "status_detail", "template_id", "runtime_type", "runtime_node", "container_id",
            "workspace_path", "resources", "timeout", "max_concurrency", "network", "allowed_hosts", "env_vars", "labels",
            "isolation", "limits_enforced", "created_at", "started_at", "expires_at", "ended_at",
        )  # fmt: skip
        extra_kwargs = {
            "status_detail": {"help_text": "The state in words."},
            "network": {
                "help_text": "`none`: no network at all; `allowlist`: the allowed hosts through a proxy, nothing else."
            },
        }

    def get_runtime_node(self, session: Session) -> str | None:
        """Its name."""
        return session.container.node_id if session.container else None

    def get_container_id(self, session: Session) -> str | None:
        """12 digits."""
        return session.container.ref[:12] if session.container and session.container.ref else None

    def get_workspace_path(self, session: Session) -> str:
        """Never a path of the host."""
        return workspace.path_of(session)

    def get_status_reason(self, session: Session) -> str | None:
        """Null rather than empty."""
        return session.status_reason or None

    def get_isolation(self, session: Session) -> dict[str, Any]:
        """From the container."""
        return session.container.isolation if session.container else {}

    def get_limits_enforced(self, session: Session) -> dict[str, Any]:
        """From the container."""
        return session.container.limits_enforced if session.container else {}


class SessionList(serializers.Serializer):
    """A page of sessions."""

    sessions = SessionOut(many=True)
    total = serializers.IntegerField(help_text="How many match in all.")


class Message(serializers.Serializer):
    """A word of confirmation."""

    message = serializers.CharField()


class UploadIn(serializers.Serializer):
    """A multipart form, its parts in either order."""

    file = serializers.FileField(help_text="Up to 100 MiB.")
    path = serializers.CharField(
        required=False,
        help_text="Where, relative to the workspace; parent folders are made. Left out: an archive goes into the workspace itself.",
    )


class UnpackedFile(serializers.Serializer):
    """One file of an archive."""

    path = serializers.CharField(help_text="Relative to the workspace.")
    size = serializers.IntegerField(help_text="Bytes.")


class UploadOut(serializers.Serializer):
    """What was stored. The last three only of an archive that was unpacked."""

    path = serializers.CharField(help_text="Relative to the workspace.")
    size = serializers.IntegerField(help_text="Bytes, of all files together.")
    count = serializers.IntegerField(required=False, help_text="How many files were unpacked.")
    files = UnpackedFile(many=True, required=False, help_text="The first 1,000 of them, sorted by path.")
    truncated = serializers.BooleanField(required=False, help_text="Whether there are more.")


class UploadUrlIn(StrictSerializer):
    """What is to be uploaded."""

    path = Text(max_length=1024, help_text="Where, relative to the workspace; parent folders are made.")


class UploadUrl(serializers.Serializer):
    """Where to upload to."""

    upload_id = serializers.CharField(help_text="For `upload-complete`.")
    url = serializers.CharField(help_text="Takes one file, from whoever has it.")
    method = serializers.CharField(help_text="PUT.")
    headers = serializers.DictField(child=serializers.CharField(), help_text="To be sent with it.")
    expires_at = serializers.DateTimeField(help_text="Until when the URL takes the file.")


class UploadDone(StrictSerializer):
    """What has been uploaded."""

    upload_id = Text(max_length=8192, help_text="As `upload-url` gave it.")


class FileOut(serializers.Serializer):
    """A file of the workspace."""

    path = serializers.CharField(help_text="Relative to the workspace.")
    size = serializers.IntegerField(help_text="Bytes.")
    modified_at = serializers.DateTimeField(help_text="By the sandbox's clock.")
    mime_type = serializers.CharField(help_text="Guessed from the name.")


class FileList(serializers.Serializer):
    """Files of a workspace."""

    files = FileOut(many=True)
    total = serializers.IntegerField(help_text="How many are listed.")
    truncated = serializers.BooleanField(help_text="True where there are more than can be listed.")
