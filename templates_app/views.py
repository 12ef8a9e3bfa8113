"""/templates: read for every token, write with the scope templates:write."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sandbox_platform import pagination
from sandbox_platform.errors import ApiError
from sandbox_platform.idempotency import once
from sandbox_platform.openapi import IDEMPOTENCY_KEY, LIMIT, OFFSET, operation
from templates_app import curation, exchange, versions
from templates_app.models import Template
from templates_app.serializers import TemplateIn, TemplateList, TemplateOut, TemplateReplacement

WRITE = "templates:write"


def find(template_id: str, *, to_change: bool = False) -> Template:
    """The template, or 404. `to_change` holds the row until the end of the transaction, which must have begun."""
    rows = Template.objects.visible().prefetch_related("images")
    rows = rows.select_for_update() if to_change else rows
    template = rows.filter(pk=template_id).first() if _sane(template_id) else None
    if template is None:
        raise ApiError("TemplateNotFound", f"Template '{template_id[:100]}' does not exist")
    return template


def _sane(template_id: str) -> bool:
    return "\0" not in template_id and len(template_id) <= 63


class TemplatesView(APIView):
    """The collection."""

    scopes = {"POST": WRITE}

    @operation(
        "list_templates",
        "List available templates",
        tag="templates",
        responses={200: TemplateList},
        parameters=[LIMIT, OFFSET],
    )
    def get(self, request: Request) -> Response:
        """Eldest first."""
        pagination.known_only(request, "limit", "offset")
        rows = Template.objects.visible().prefetch_related("images")
        return pagination.page(request, rows, "templates", lambda row: TemplateOut(row).data)

    @operation("create_template", "Create a template", tag="templates", request=TemplateIn, responses={201: TemplateOut},
               errors=["Forbidden", "Conflict"], parameters=[IDEMPOTENCY_KEY])  # fmt: skip
    def post(self, request: Request) -> Response:
        """It is prepared in the background; sessions of it wait until it is ready."""
        data = TemplateIn(data=request.data)
        data.is_valid(raise_exception=True)
        return once(request, lambda: self._create(data.columns()))

    def _create(self, columns: dict[str, Any]) -> Response:
        pk = columns.pop("id")
        fresh = {**versions.fresh_spec(pk), "deleted_at": None, "deprecated_at": None, "draft": False, **columns}
        # One that was deleted is taken up again. Of two that ask at once, the second finds what the first has made.
        template, created = Template.objects.select_for_update().get_or_create(pk=pk, defaults=fresh)
        if not created:
            if template.deleted_at is None:
                solution = (
                    "Operators prepare a template of this id, which is not published yet: choose another id"
                    if template.draft
                    else "PUT replaces it; or choose another id"
                )
                raise ApiError("Conflict", f"Template '{pk}' exists already", solution=solution)
            for name, value in fresh.items():
                setattr(template, name, value)
            template.save()
        curation.prepare_everywhere(template)
        return Response(TemplateOut(template).data, status=201, headers={"Location": f"/api/v1/templates/{pk}"})


class TemplateView(APIView):
    """One template."""

    scopes = {"PUT": WRITE, "PATCH": WRITE, "DELETE": WRITE}

    @operation(
        "get_template",
        "Get template details",
        tag="templates",
        responses={200: TemplateOut},
        errors=["TemplateNotFound"],
    )
    def get(self, request: Request, template_id: str) -> Response:
        """Deprecated ones too."""
        return Response(TemplateOut(find(template_id)).data)

    @operation("replace_template", "Replace a template", tag="templates", request=TemplateReplacement, responses={200: TemplateOut},
               errors=["Forbidden", "TemplateNotFound"])  # fmt: skip
    def put(self, request: Request, template_id: str) -> Response:
        """What is not named goes back to its default, but for what operators alone may say. Live sessions keep what they started with."""
        return self._change(request, template_id, partial=False)

    @operation("update_template", "Update a template", tag="templates", request=TemplateIn, responses={200: TemplateOut},
               errors=["Forbidden", "TemplateNotFound"])  # fmt: skip
    def patch(self, request: Request, template_id: str) -> Response:
        """What is not named stays."""
        return self._change(request, template_id, partial=True)

    @operation("delete_template", "Delete a template", tag="templates", responses={204: None},
               errors=["Forbidden", "TemplateNotFound", "Conflict"])  # fmt: skip
    def delete(self, request: Request, template_id: str) -> Response:
        """409 while live sessions use it: deprecate it instead."""
        with transaction.atomic():
            template = find(template_id, to_change=True)
            if curation.in_use(template):
                raise ApiError(
                    "Conflict",
                    f"Template '{template_id}' is in use by live sessions",
                    solution="Deprecate it ('deprecated': true): it takes no new sessions then, and can be deleted "
                    "once they have ended",
                )
            Template.objects.filter(pk=template.pk).update(deleted_at=timezone.now())
        return Response(status=204)

    def _change(self, request: Request, template_id: str, partial: bool) -> Response:
        with transaction.atomic():
            # Held from here on: all columns are written, and none may have changed since they were read.
            template = find(template_id, to_change=True)
            data = TemplateIn(template, data={"id": template_id, **request.data}, partial=partial)
            data.is_valid(raise_exception=True)
            columns = data.columns(template)
            if columns.pop("id", template_id) != template_id:
                raise ApiError("InvalidParameter", "id: can't be changed")
            if not partial:
                # What the API has no words for is the operators': it stays.
                said = {k: v for k, v in versions.fresh_spec(template_id).items() if k not in exchange.MORE}
                columns = {"deprecated_at": None, **said, **columns}
            for name, value in columns.items():
                setattr(template, name, value)
            template.save()
            curation.prepare_everywhere(template)
        return Response(TemplateOut(find(template_id)).data)
