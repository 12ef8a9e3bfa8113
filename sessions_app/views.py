"""/sessions."""

from __future__ import annotations

import time
from typing import Any

from django.db.models import Value
from django.db.models.lookups import Exact
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sandbox_platform import idempotency, pagination, wakeups
from sandbox_platform.auth import key_of
from sandbox_platform.errors import ApiError, invalid
from sandbox_platform.openapi import IDEMPOTENCY_KEY, LIMIT, OFFSET, PREFER, operation, shown
from sandbox_platform.prefer import retry_after, wait_seconds, waiting_place
from sessions_app.models import LabelValue, Session, SessionStatus
from sessions_app.serializers import Message, SessionIn, SessionList, SessionOut, SessionPatch
from sessions_app.services import forks, lifecycle
from templates_app.models import Template

CREATE_EXAMPLE = {
    "template_id": "python-basic",
    "timeout": 300,
    "resources": {"cpu": "1", "memory": "512Mi", "disk": "1Gi"},
    "env_vars": {"LOG_LEVEL": "info"},
}
# That may be filtered by at once: each is a condition of its own.
MAX_LABELS = 16
TERMINATED = {"message": "Session terminated successfully"}


def not_found(session_id: str) -> ApiError:
    """Of an id that is unknown, of another project, or (for what changes it) has ended."""
    return ApiError("SessionNotFound", f"Session '{session_id[:100]}' does not exist or has been terminated")


def find(request: Request, session_id: str, live: bool = False) -> Session:
    """The caller's session, or 404. With `live`, one that has ended is 404 too. Counts as activity."""
    rows = Session.objects.select_related("container", "template").filter(project=key_of(request).project)
    session = rows.filter(pk=session_id).first() if "\0" not in session_id else None
    if session is None or (live and (session.ended or session.closing)):
        raise not_found(session_id)
    lifecycle.touch(session)
    return session


def await_start(session: Session, seconds: float) -> Session:
    """Wait until it runs or has failed, `seconds` at the most. The row as it is then."""
    deadline = time.monotonic() + seconds
    with waiting_place() as place, wakeups.Waiter(session.topic) as waiter:
        while place:
            session = Session.objects.select_related("container", "template").get(pk=session.pk)
            left = deadline - time.monotonic()
            if session.status != SessionStatus.CREATING or left <= 0:
                break
            waiter.wait(min(left, 2.0))
    return session


class SessionsView(APIView):
    """The collection."""

    @operation(
        "create_session", "Create a session", tag="sessions", request=SessionIn, responses={201: SessionOut},
        errors=["TemplateNotFound", "SessionNotFound", "Conflict", "TooManyRequestsExection", "RuntimeUnavailable"],
        parameters=[IDEMPOTENCY_KEY, PREFER], examples=[shown("Python Basic Environment", CREATE_EXAMPLE, request=True)],
        description="Answers at once with `status: creating`. Code may be submitted right away: it runs once the sandbox is up.",
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """201; with `Prefer: wait=N`, once it runs or has failed."""
        wait = wait_seconds(request)
        values = SessionIn.read(request.data)
        response = idempotency.once(request, lambda: self._create(request, values))
        if wait is None or response.status_code != 201 or "Idempotent-Replayed" in response.headers:
            return response
        session = await_start(Session.objects.get(pk=response.data["session_id"]), wait)
        return idempotency.amend(request, self._answer(session, {"Preference-Applied": f"wait={wait}"}))

    def _create(self, request: Request, values: dict[str, Any]) -> Response:
        template_id = values["template_id"]
        template = Template.objects.visible().filter(pk=template_id).first()
        if template is None:
            raise ApiError("TemplateNotFound", f"Template '{template_id[:100]}' does not exist")
        if template.deprecated_at:
            raise invalid(f"template_id: template '{template_id}' is deprecated and takes no new sessions")
        if source := values.pop("workspace_from", None):
            values["workspace_from"] = forks.source(find(request, source))
        session = lifecycle.create(key_of(request).project, template, values)
        # The answer tells of the moment of creation, `creating`, even where a warm sandbox has been claimed already.
        session.refresh_from_db(fields=["created_at"])
        return self._answer(session, {})

    def _answer(self, session: Session, headers: dict[str, str]) -> Response:
        if session.status == SessionStatus.CREATING and headers:
            headers["Retry-After"] = retry_after()
        headers["Location"] = f"/api/v1/sessions/{session.pk}"
        return Response(SessionOut(session).data, status=201, headers=headers)

    @operation(
        "list_sessions", "List sessions", tag="sessions", responses={200: SessionList},
        parameters=[
            OpenApiParameter("status", enum=SessionStatus.values), OpenApiParameter("template_id"),
            OpenApiParameter("label", many=True, description="`key:value`; given again, all must match."), LIMIT, OFFSET,
        ],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """Newest first, ended ones included."""
        query = pagination.known_only(request, "status", "template_id", "label", "limit", "offset")
        rows = Session.objects.select_related("container").filter(project=key_of(request).project)
        if status := pagination.choice(query, "status", SessionStatus.values):
            rows = rows.filter(status=status)
        if template_id := pagination.text(query, "template_id"):
            rows = rows.filter(template_id=template_id)
        for key, value in _labels(query.getlist("label")):
            rows = rows.filter(Exact(LabelValue("labels", Value(key)), value))
        return pagination.page(request, rows, "sessions", lambda row: SessionOut(row).data)


def _labels(given: list[str]) -> list[tuple[str, str]]:
    if len(given) > MAX_LABELS:
        raise invalid(f"label: given more than {MAX_LABELS} times")
    pairs = []
    for label in given:
        key, colon, value = label.partition(":")
        if not colon or not key or "\0" in label:
            raise invalid("label: must be key:value")
        pairs.append((key, value))
    return pairs


class SessionView(APIView):
    """One session."""

    @operation(
        "get_session", "Get session details", tag="sessions", responses={200: SessionOut}, errors=["SessionNotFound"]
    )
    def get(self, request: Request, session_id: str) -> Response:
        """Goes on answering after the end, with the reason, as long as the record is kept."""
        return Response(SessionOut(find(request, session_id)).data)

    @operation("update_session", "Extend a session", tag="sessions", request=SessionPatch, responses={200: SessionOut},
               errors=["SessionNotFound"])  # fmt: skip
    def patch(self, request: Request, session_id: str) -> Response:
        """`timeout` seconds from now."""
        session = find(request, session_id, live=True)
        if not lifecycle.extend(session, SessionPatch.read(request.data)["timeout"]):
            raise not_found(session_id)
        return Response(SessionOut(find(request, session_id)).data)

    @operation(
        "terminate_session", "Terminate a session", tag="sessions", responses={200: Message}, errors=["SessionNotFound"],
        parameters=[OpenApiParameter("purge", bool, description="Also erase its files and outputs at once.")],
        examples=[shown("Terminated", TERMINATED)],
    )  # fmt: skip
    def delete(self, request: Request, session_id: str) -> Response:
        """Again and again is fine."""
        query = pagination.known_only(request, "purge")
        lifecycle.terminate(find(request, session_id), purge=pagination.boolean(query, "purge", False))
        return Response(TERMINATED)
