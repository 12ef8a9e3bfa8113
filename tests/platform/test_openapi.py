"""The OpenAPI document: valid, complete, and stable where clients hold on to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator

from executions_app.services.events import Position
from sandbox_platform import openapi_examples
from sandbox_platform.errors import KINDS

OPERATIONS = {
    "create_session": "POST /sessions", "list_sessions": "GET /sessions", "get_session": "GET /sessions/{session_id}",
    "update_session": "PATCH /sessions/{session_id}", "terminate_session": "DELETE /sessions/{session_id}",
    "execute_code": "POST /sessions/{session_id}/execute", "list_executions": "GET /sessions/{session_id}/executions",
    "list_files": "GET /sessions/{session_id}/files", "upload_file": "POST /sessions/{session_id}/files/upload",
    "download_file": "GET /sessions/{session_id}/files/{name}", "delete_file": "DELETE /sessions/{session_id}/files/{name}",
    "create_upload_url": "POST /sessions/{session_id}/files/upload-url",
    "complete_upload": "POST /sessions/{session_id}/files/upload-complete",
    "get_execution": "GET /executions/{execution_id}", "get_execution_status": "GET /executions/{execution_id}/status",
    "get_execution_result": "GET /executions/{execution_id}/result", "cancel_execution": "POST /executions/{execution_id}/cancel",
    "stream_execution_events": "GET /executions/{execution_id}/events",
    "list_templates": "GET /templates", "create_template": "POST /templates", "get_template": "GET /templates/{template_id}",
    "replace_template": "PUT /templates/{template_id}", "update_template": "PATCH /templates/{template_id}",
    "delete_template": "DELETE /templates/{template_id}", "list_containers": "GET /containers",
    "get_container": "GET /containers/{container_id}", "get_container_logs": "GET /containers/{container_id}/logs",
    "get_container_stats": "GET /containers/{container_id}/stats",
}  # fmt: skip


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    answer = Client().get("/api/schema?format=json")
    assert answer.status_code == 200
    return json.loads(answer.content)


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_valid_and_makes_no_warnings(tmp_path: Any) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yaml"))


def test_json_and_yaml_say_the_same(document: dict[str, Any]) -> None:
    answer = Client().get("/api/schema")
    assert yaml.safe_load(answer.content) == document
    validate_schema(document)


def as_json_schema(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema. What has named fields has no others."""
    if isinstance(schema, list):
        return [as_json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: as_json_schema(value) for name, value in schema.items() if name != "nullable"}
    if isinstance(plain.get("properties"), dict):
        plain.setdefault("additionalProperties", False)
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


def test_every_operation_has_examples_that_are_what_they_show(document: dict[str, Any]) -> None:
    components = as_json_schema(document["components"])
    # A form of parts has no JSON, a file's bytes are anything, and nothing is nothing.
    without = {"upload_file request", "download_file 200", "download_file 206"}
    for _, _, operation in operations(document):
        bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for name, body in bodies.items():
            for content in [*body.get("content", {}).values()][:1]:
                where = f"{operation['operationId']} {name}"
                assert content.get("examples") or where in without, f"{where} has no example"
                schema = {**as_json_schema(content["schema"]), "components": components}
                for example in content.get("examples", {}).values():
                    errors = list(Draft202012Validator(schema).iter_errors(example["value"]))
                    assert not errors, f"{where}: {errors[0].message} at {list(errors[0].absolute_path)}"


def test_a_field_that_no_answer_has_would_be_found(document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/ExecutionItem", "components": as_json_schema(document["components"])}
    item = {**openapi_examples.EXECUTION_ITEM}
    assert not list(Draft202012Validator(schema).iter_errors(item))
    assert list(Draft202012Validator(schema).iter_errors({**item, "execution_time": 0.1}))


def test_the_example_of_a_stream_is_one_that_the_service_sends(document: dict[str, Any]) -> None:
    components = as_json_schema(document["components"])
    retry, *frames = openapi_examples.EVENTS.removesuffix("\n\n").split("\n\n")
    assert retry == "retry: 1000"
    at = Position()
    for frame, stage in zip(frames, (1, 1, 2, 3), strict=True):
        fields = dict(line.split(": ", 1) for line in frame.splitlines())
        data = json.loads(fields["data"])
        if fields["event"] == "stdout":
            assert set(data) == {"text", "offset"}
            at.stdout += len(data["text"].encode())
        else:
            name = {"status": "StatusOut", "result": "ResultOut"}[fields["event"]]
            assert fields["event"] == "result" or data.pop("attempt") == 1
            schema = {"$ref": f"#/components/schemas/{name}", "components": components}
            assert not list(Draft202012Validator(schema).iter_errors(data))
        at.stage = stage
        assert int(fields["id"]) == at.id()


def test_a_download_names_its_conditions_and_what_they_lead_to(document: dict[str, Any]) -> None:
    (download,) = [one for _, _, one in operations(document) if one["operationId"] == "download_file"]
    names = {parameter["name"] for parameter in download["parameters"]}
    assert {"Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match"} <= names
    assert {"200", "206", "304", "307", "412", "416"} <= set(download["responses"])
    assert {"ETag", "Content-Disposition", "Content-Range"} <= set(download["responses"]["206"]["headers"])


def test_the_kinds_of_runtime_are_those_that_the_filter_takes(document: dict[str, Any]) -> None:
    (listing,) = [one for _, _, one in operations(document) if one["operationId"] == "list_containers"]
    (kinds,) = [one["schema"]["enum"] for one in listing["parameters"] if one["name"] == "runtime_type"]
    assert set(kinds) == {"docker", "bubblewrap", "kubernetes"}


def test_what_answers_carry_in_headers_is_described(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert "X-Request-ID" in answer["headers"]
            assert {name for name in answer["headers"]} <= set(document["components"]["headers"])
            if status == "503":
                assert "Retry-After" in answer["headers"]


def test_operation_ids_are_stable(document: dict[str, Any]) -> None:
    found = {
        operation["operationId"]: f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, method, operation in operations(document)
    }
    assert found == OPERATIONS


def test_every_operation_names_its_errors(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        responses = operation["responses"]
        assert {"400", "401", "406", "500", "503"} <= set(responses), (method, path)
        if "{" in path:
            assert "404" in responses, (method, path)
        if method in ("post", "put", "patch") and "requestBody" in operation:
            assert {"413", "415"} <= set(responses), (method, path)
        for status, response in responses.items():
            if int(status) >= 400:
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, (method, path, status)
                for name in response["content"]["application/json"]["examples"]:
                    assert KINDS[name].status == int(status)


def test_every_operation_needs_a_token_and_is_described(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["BearerAuth"]["scheme"] == "bearer"
    for path, method, operation in operations(document):
        assert operation["security"] == [{"BearerAuth": []}], (method, path)
        assert operation["summary"] and operation["description"] and len(operation["tags"]) == 1


def test_posts_take_an_idempotency_key(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        # Uploads overwrite by path: they need none.
        if method == "post" and operation["operationId"] not in ("upload_file", "complete_upload"):
            assert "Idempotency-Key" in names, path
            assert "409" in operation["responses"], path


def test_no_example_holds_a_secret(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert "sbx_" not in text.replace("`sbx_...`", "")
