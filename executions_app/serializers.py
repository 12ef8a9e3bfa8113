"""Executions in the API's words: "submitted" and "success" live here alone."""

from __future__ import annotations

import json
from typing import Any

from rest_framework import serializers

from executions_app.models import Execution, ExecutionStatus, Language
from sandbox_platform.fields import EnvVars, StrictBoolean, StrictInteger, StrictSerializer, Text
from sandbox_platform.renderers import RawJSON

MAX_CODE = 100 * 1024
MAX_EVENT = 1024 * 1024
MAX_STDIN = 1024 * 1024
# Deeper events are refused: no JSON library on the way promises to take them.
MAX_DEPTH = 200


class AnyJson(serializers.JSONField):
    """Any JSON value, null included."""

    def to_internal_value(self, data: Any) -> Any:
        """Its text."""
        if _too_deep(data):
            raise serializers.ValidationError(f"must not be nested deeper than {MAX_DEPTH}")
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) > MAX_EVENT:
            raise serializers.ValidationError(f"must be at most {MAX_EVENT} bytes of JSON")
        return text

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        """Null is a value here."""
        return (False, data) if data is None else super().validate_empty_values(data)


def _too_deep(value: Any) -> bool:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    return False


class ExecutionIn(StrictSerializer):
    """A run as it is submitted."""

    nullable = frozenset({"event"})

    code = Text(
        help_text="1 byte to 100 KiB of UTF-8. Python and JavaScript define `handler(event)`, or run as a script."
    )
    language = serializers.ChoiceField(Language.choices, help_text="python, javascript or shell.")
    timeout = StrictInteger(default=30, min_value=1, max_value=3600, help_text="Seconds from the start of the run.")
    event = AnyJson(required=False, help_text="Any JSON up to 1 MiB, given to the handler.")
    stdin = Text(required=False, allow_blank=True, nul=True, help_text="Text for the standard input, up to 1 MiB.")
    args = serializers.ListField(
        child=Text(allow_blank=True, max_length=65536),
        required=False,
        max_length=256,
        help_text="The script's arguments.",
    )
    env_vars = EnvVars(required=False, help_text="Over those of the session. Write-only.")
    working_directory = Text(required=False, allow_blank=True, max_length=1024, help_text="Relative to the workspace.")
    retry_lost = StrictBoolean(default=False, help_text="Try again if the run is lost after its start.")

    def validate_code(self, code: str) -> str:
        """Bounded in bytes."""
        if len(code.encode()) > MAX_CODE:
            raise serializers.ValidationError(f"must be at most {MAX_CODE} bytes")
        return code

    def validate_stdin(self, text: str) -> bytes:
        """Bounded in bytes."""
        data = text.encode()
        if len(data) > MAX_STDIN:
            raise serializers.ValidationError(f"must be at most {MAX_STDIN} bytes")
        return data

    def validate_args(self, args: list[str]) -> list[str]:
        """Bounded in bytes."""
        if sum(len(arg.encode()) for arg in args) > 128 * 1024:
            raise serializers.ValidationError("must be at most 131072 bytes in all")
        return args

    def validate_working_directory(self, path: str) -> str:
        """Inside the workspace."""
        from sessions_app.services.workspace import check_path

        inside = "" if path == "/workspace" else path.removeprefix("/workspace/")
        return check_path(inside.removesuffix("/"), "working_directory") if inside else ""


class Submitted(serializers.Serializer):
    """The answer to a submission."""

    execution_id = serializers.CharField(source="id", help_text="exec_, the day, and a tail that can't be guessed.")
    session_id = serializers.CharField(help_text="Where it runs.")
    status = serializers.SerializerMethodField(help_text="`submitted`.")
    submitted_at = serializers.DateTimeField(source="created_at", help_text="When it was accepted.")

    def get_status(self, execution: Execution) -> str:
        """The word of the quickstart."""
        return "submitted"


class StatusOut(serializers.ModelSerializer):
    """Where an execution stands."""

    execution_id = serializers.CharField(source="id", help_text="Its id.")
    session_id = serializers.CharField(help_text="Where it runs.")

    class Meta:
        model = Execution
        fields = ("execution_id", "session_id", "status", "created_at", "started_at", "completed_at")


class MetricsOut(serializers.Serializer):
    """Measured on the run's own processes."""

    duration_ms = serializers.FloatField(help_text="Wall time.")
    cpu_time_ms = serializers.FloatField(help_text="Processor time of all its processes.")
    peak_memory_mb = serializers.FloatField(help_text="The largest process's resident memory at its peak.")


class ErrorOut(serializers.Serializer):
    """What went wrong in a run."""

    error_code = serializers.CharField(help_text="`Sandbox.ExecException`, `Sandbox.ExecTimeout`, ...: a closed list.")
    type = serializers.CharField(help_text="The exception's class, or the kind of end.")
    message = serializers.CharField(help_text="In words.")
    traceback = serializers.CharField(allow_null=True, help_text="The user's own frames.")


class ArtifactOut(serializers.Serializer):
    """A workspace file that the run changed."""

    path = serializers.CharField(help_text="Relative to the workspace.")
    size = serializers.IntegerField(help_text="Bytes.")
    mime_type = serializers.CharField(help_text="Guessed from the name.")
    change = serializers.ChoiceField(["created", "modified"], help_text="What the run did to it.")


class OutcomeOut(serializers.Serializer):
    """What a run came to. Before its end: what output there is so far, and null elsewhere."""

    stdout = serializers.CharField(help_text="UTF-8 with replacement; the first and the last 512 KiB.")
    stderr = serializers.CharField(help_text="Likewise.")
    stdout_truncated = serializers.BooleanField(help_text="True where the middle was left out.")
    stderr_truncated = serializers.BooleanField(help_text="Likewise.")
    stdout_omitted_bytes = serializers.IntegerField(help_text="How many bytes were left out.")
    stderr_omitted_bytes = serializers.IntegerField(help_text="Likewise.")
    exit_code = serializers.IntegerField(allow_null=True, help_text="What the process gave; 128+n for a signal.")
    execution_time = serializers.FloatField(allow_null=True, help_text="Seconds.")
    return_value = serializers.JSONField(allow_null=True, help_text="Exactly what the handler returned.")
    metrics = MetricsOut(allow_null=True)
    artifacts = ArtifactOut(many=True, allow_null=True)
    artifacts_truncated = serializers.BooleanField(
        allow_null=True, help_text="True where the run changed more files than are listed."
    )
    error = ErrorOut(allow_null=True)


class ResultOut(OutcomeOut):
    """The result of an execution. Before its end: what output there is so far, and null elsewhere."""

    execution_id = serializers.CharField(help_text="Its id.")
    status = serializers.ChoiceField(
        ["pending", "running", "success", "failed", "timeout"], help_text="`success` where the state is `completed`."
    )


class RunOut(StatusOut):
    """What was submitted, and where it stands."""

    args = serializers.ListField(child=serializers.CharField(), help_text="The script's arguments.")
    event = serializers.SerializerMethodField(help_text="As submitted.")
    stdin = serializers.SerializerMethodField(help_text="As submitted; null where there was none.")
    env_vars = serializers.ListField(
        source="env_names",
        child=serializers.CharField(),
        allow_null=True,
        help_text="The names of the run's own, alone. Null where the service's secret key has changed since.",
    )

    class Meta(StatusOut.Meta):
        fields = (  # type: ignore[assignment]
            *StatusOut.Meta.fields, "language", "code", "event", "stdin", "args", "env_vars", "working_directory", "timeout", "retry_lost",
        )  # fmt: skip

    def get_event(self, execution: Execution) -> Any:
        """Its text."""
        return RawJSON(execution.event)

    def get_stdin(self, execution: Execution) -> str | None:
        """Text, as it came."""
        return None if execution.stdin is None else as_text(execution.stdin)


class ExecutionOut(OutcomeOut, RunOut):
    """All of an execution: what was submitted, where it stands (in the stored words), and what it came to."""

    class Meta(RunOut.Meta):
        fields = (*RunOut.Meta.fields, *OutcomeOut().fields)  # type: ignore[assignment]


class ExecutionItem(StatusOut):
    """An execution in a list."""

    class Meta(StatusOut.Meta):
        fields = (*StatusOut.Meta.fields, "language", "exit_code")  # type: ignore[assignment]


class ExecutionList(serializers.Serializer):
    """A page of executions."""

    executions = ExecutionItem(many=True)
    total = serializers.IntegerField(help_text="How many match in all.")


def stored_word(status: str) -> str:
    """The word of /result for a stored state."""
    return "success" if status == ExecutionStatus.COMPLETED else status


def as_text(data: bytes | memoryview) -> str:
    """UTF-8 with replacement."""
    return bytes(data).decode("utf-8", "replace")
