"""The words of the OpenAPI document that the code has no place for: a hook that leaves no field, parameter or answer undescribed,
and tells clients which fields an answer is sure to have."""

from __future__ import annotations

from typing import Any

from sandbox_platform import openapi_examples

FIELDS = {
    "artifacts": "Files of the workspace that the run made or changed.",
    "base_image": "What the image is built upon; pulled, or made from Debian packages where it can't be.",
    "code": "The code, as submitted.",
    "completed_at": "When it ended; null until then.",
    "containers": "This page of them.",
    "created_at": "When it was asked for, in UTC.",
    "default_resources": "What a session gets unless it asks for something else.",
    "description": "For people.",
    "ended_at": "When it ended; null until then.",
    "error": "What went wrong; null where nothing did.",
    "executions": "This page of them.",
    "exit_code": "What the process gave; 128 and the number of a signal that ended it. Null before its end.",
    "expires_at": "When it will end by itself; null until it runs.",
    "files": "Those that there are.",
    "labels": "As they were given.",
    "language": "What the code is written in.",
    "languages": "What code may be written in.",
    "max_concurrency": "Runs that may overlap; further ones wait their turn.",
    "message": "What was done.",
    "metrics": "What it used; null before its end.",
    "name": "For people.",
    "pre_installed_packages": 'Python requirements by name, such as "numpy>=1.24".',
    "preload": "Modules that are imported once per sandbox, before the first run.",
    "retry_lost": "Whether it is tried again if it is lost after its start.",
    "runtime_type": "The kind of runtime that it has.",
    "sessions": "This page of them.",
    "started_at": "When it began to run; null until then.",
    "status": "Its state.",
    "template_id": "The template that it started from.",
    "templates": "This page of them.",
    "updated_at": "When it was changed last.",
    "working_directory": "Relative to the workspace; empty is the workspace itself.",
}
PARAMETERS = {
    "container_id": "The short id (12 digits) or the full one.",
    "execution_id": "As the submission answered it.",
    "name": "The path of the file, relative to the workspace; it may have folders.",
    "runtime_type": "Only those of this kind of runtime.",
    "session_id": "As the creation answered it.",
    "status": "Only those in this state.",
    "template_id": "One of GET /templates.",
}
# A change that says nothing is refused.
NEEDED = {"PatchedSessionPatchRequest": ["timeout"]}
# Fields that an answer has only at times.
SOMETIMES = {"UploadOut": {"count", "files", "truncated"}}
SCHEMAS = {"ExecuteAnswer": "The finished result where it was waited for and came in time, else that it was submitted."}
ANSWERS = {"200": "Done.", "201": "Made; `Location` names it.", "204": "Done; nothing to say."}


def describe(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """drf-spectacular's hook. What is described already stays as it is."""
    schemas = result.get("components", {}).get("schemas", {})
    for title, schema in schemas.items():
        if title in SCHEMAS:
            schema.setdefault("description", SCHEMAS[title])
        if "properties" in schema and not title.endswith("Request"):
            # Answers have all their fields, whatever a column's default says: clients need not doubt each.
            schema["required"] = sorted(set(schema["properties"]) - SOMETIMES.get(title, set()))
        elif "properties" in schema:
            schema["additionalProperties"] = False  # what is unknown is refused, never ignored
            # Of a change, what the whole needs may be left out, but not be null.
            whole = schemas.get(title.removeprefix("Patched"), schema)
            if title in NEEDED:
                schema["required"] = NEEDED[title]
            _let_null_mean_absent(schema, [*whole.get("required", []), *schema.get("required", [])])
        for name, field in schema.get("properties", {}).items():
            if not field.get("description") and name in FIELDS:
                schema["properties"][name] = _described(field, FIELDS[name])
    result.setdefault("components", {})["headers"] = openapi_examples.headers()
    for methods in result.get("paths", {}).values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in PARAMETERS:
                    parameter.setdefault("description", PARAMETERS[parameter["name"]])
            openapi_examples.add(operation)
            for status, answer in operation.get("responses", {}).items():
                if not answer.get("description"):
                    answer["description"] = ANSWERS.get(status, "")
    return result


def _let_null_mean_absent(schema: dict[str, Any], needed: list[str]) -> None:
    """As `StrictSerializer` does. Not in forms, whose fields are text."""
    if any(field.get("format") == "binary" for field in schema["properties"].values()):
        return
    for name, field in schema["properties"].items():
        if name not in needed:
            schema["properties"][name] = {**_wrapped(field), "nullable": True}


def _described(field: dict[str, Any], words: str) -> dict[str, Any]:
    return {**_wrapped(field), "description": words}


def _wrapped(field: dict[str, Any]) -> dict[str, Any]:
    """Beside a `$ref` nothing else counts in OpenAPI 3.0: it is wrapped."""
    return {"allOf": [{"$ref": field["$ref"]}]} if "$ref" in field else field
