"""/executions, and what runs in a session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from executions_app.models import FINAL, Execution, ExecutionStatus, topic_of
from executions_app.serializers import (
    ExecutionIn,
    ExecutionItem,
    ExecutionList,
    ExecutionOut,
    ResultOut,
    StatusOut,
    Submitted,
)
from executions_app.services import reading, submit, target
from executions_app.services.events import Position, Reader
from executions_app.services.here import drive_here
from executions_app.services.result import all_of, result_of
from sandbox_platform import idempotency, pagination, wakeups
from sandbox_platform.auth import confirm, confirmed, key_of
from sandbox_platform.errors import OUTAGE, ApiError, invalid
from sandbox_platform.middleware import request_id_of
from sandbox_platform.openapi import IDEMPOTENCY_KEY, LIMIT, OFFSET, PREFER, WAIT, operation, shown
from sandbox_platform.openapi_examples import RESULT
from sandbox_platform.prefer import MAXIMUM, retry_after, wait_seconds, waiting_place
from sandbox_platform.renderers import AnyAccept
from sessions_app import views as sessions
from sessions_app.models import Session
from sessions_app.services import lifecycle

# With `Prefer: wait` it may be the finished result.
EXECUTE_ANSWER = PolymorphicProxySerializer("ExecuteAnswer", [Submitted, ResultOut], resource_type_field_name=None)
HELLO = (
    'def handler(event):\n    name = event.get("name", "World")\n'
    '    return {\n        "statusCode": 200,\n        "body": f"Hello, {name}!"\n    }'
)
EXECUTE_EXAMPLE = {"code": HELLO, "language": "python", "timeout": 30, "event": {"name": "Alice"}}
SUBMITTED_EXAMPLE = {
    "execution_id": "exec_20260106_abc12345k3v9x2q7",
    "session_id": "sess_abc123def4567890",
    "status": "submitted",
    "submitted_at": "2026-01-06T10:05:00Z",
}


def find(request: Request, execution_id: str, names: tuple[str, ...] = reading.OUTCOME) -> Execution:
    """The caller's execution, or 404. Counts as activity of its session."""
    execution = reading.find(key_of(request).project.pk, execution_id, names)
    if execution is None:
        raise _not_found(execution_id)
    lifecycle.touch(execution.session)
    return execution


def reload(execution: Execution) -> Execution:
    """What became of it; 404 if it was deleted meanwhile."""
    fresh = reading.again(execution)
    if fresh is None:
        raise _not_found(execution.pk)
    return fresh


def _not_found(execution_id: str) -> ApiError:
    return ApiError("ExecutionNotFound", f"Execution '{execution_id[:100]}' does not exist")


def until_done(execution: Execution, waiter: wakeups.Waiter, seconds: float) -> Execution:
    """Wait for the end, `seconds` at the most, by a waiter that was there before `execution` was read. The row as it is then."""
    deadline = time.monotonic() + seconds
    while not execution.done and (left := deadline - time.monotonic()) > 0:
        waiter.wait(min(left, 2.0))
        execution = reload(execution)  # when it rings it is mostly the end
    return execution


def waited(request: Request, execution_id: str, show: Callable[[Execution], Any]) -> Response:
    """The answer of a resource that takes `?wait=N`."""
    query = pagination.known_only(request, "wait")
    seconds = pagination.integer(query, "wait", 0, 0, MAXIMUM)
    with wakeups.Waiter(topic_of(execution_id)) as waiter:
        execution = find(request, execution_id)
        if seconds and not execution.done:
            with waiting_place() as place:
                execution = until_done(execution, waiter, seconds if place else 0)
            if place and not execution.done:
                execution = find(request, execution_id)  # its session may have got its sandbox since
    headers = {} if execution.done or "wait" not in query else {"Retry-After": retry_after()}
    return Response(show(execution), headers=headers)


class ExecuteView(APIView):
    """POST /sessions/{id}/execute. Its key is asked for by the statement that starts a run, and by `confirm` wherever none does."""

    confirms_key = True

    @operation(
        "execute_code", "Execute code", tag="executions", request=ExecutionIn, responses={200: EXECUTE_ANSWER},
        errors=["SessionNotFound", "Conflict", "TooManyRequestsExection"], parameters=[IDEMPOTENCY_KEY, PREFER],
        examples=[shown("Hello", EXECUTE_EXAMPLE, request=True), shown("Submitted", SUBMITTED_EXAMPLE)],
        description="Answers at once with `status: submitted`. With `Prefer: wait=N` it answers with the finished result, in the shape of "
        "`/executions/{id}/result`, when it is done in time.",
    )  # fmt: skip
    def post(self, request: Request, session_id: str) -> Response:
        """200; with `Prefer: wait=N`, the result where it is there in time."""
        wait = wait_seconds(request)
        values = ExecutionIn.read(request.data)
        if wait:
            with waiting_place() as place:
                if place:
                    return self._submit_and_wait(request, session_id, values, wait)
        confirm(request)
        session = self._session(request, session_id, values["language"])
        come_back = {} if wait is None else {"Retry-After": retry_after()}
        if idempotency.asked(request):
            return idempotency.once(request, lambda: self._submit(request, session, values, False, come_back)[1])
        execution = submit.submit_alone(session, values, request_id_of(request))
        return Response(Submitted(execution).data, headers=come_back)

    def handle_exception(self, exc: Exception) -> Response:
        """Who is not let in learns nothing else, but that the database is away."""
        if not isinstance(exc, (AuthenticationFailed, *OUTAGE)):
            try:
                confirm(self.request)
            except AuthenticationFailed as refused:
                exc = refused
        return super().handle_exception(exc)

    def _session(self, request: Request, session_id: str, language: str) -> Session:
        found = target.find(key_of(request).project.pk, session_id)
        if found is None:
            raise sessions.not_found(session_id)
        session, languages = found
        if session.ended or session.closing:
            # A repeated request must get its first answer even if the session has ended since.
            if idempotency.is_known(request):
                return session
            raise sessions.not_found(session_id)
        if language not in languages:
            raise invalid(
                f"language: template '{session.template_id}' has no {language}; it has {', '.join(languages)}"
            )
        return session

    def _submit(
        self, request: Request, session: Session, values: dict[str, Any], drive_here: bool, headers: dict[str, str]
    ) -> tuple[Execution, Response]:
        execution = submit.submit(session, values, request_id_of(request), drive_here)
        return execution, Response(Submitted(execution).data, headers=headers)

    def _submit_and_wait(self, request: Request, session_id: str, values: dict[str, Any], wait: int) -> Response:
        execution = None
        if not idempotency.asked(request):
            execution = submit.submit_here(key_of(request), session_id, values, request_id_of(request))
        if execution is not None:
            confirmed(request)
        else:
            confirm(request)
            session = self._session(request, session_id, values["language"])
            made: list[Execution] = []

            def act() -> Response:
                execution, response = self._submit(request, session, values, True, {})
                made.append(execution)
                return response

            response = idempotency.once(request, act)
            if not made or "Idempotent-Replayed" in response.headers or response.status_code != 200:
                return response
            execution = made[0]
        if execution.status == ExecutionStatus.RUNNING:
            if not drive_here(execution, wait):
                execution = reload(execution)
        else:
            with wakeups.Waiter(execution.topic) as waiter:
                execution = until_done(reload(execution), waiter, wait)
        if execution.status in FINAL:
            response = Response(result_of(execution), headers={"Preference-Applied": f"wait={wait}"})
            return idempotency.amend(request, response)
        return Response(Submitted(execution).data, headers={"Retry-After": retry_after()})


class SessionExecutionsView(APIView):
    """GET /sessions/{id}/executions."""

    @operation(
        "list_executions", "List executions of a session", tag="executions", responses={200: ExecutionList}, errors=["SessionNotFound"],
        parameters=[OpenApiParameter("status", enum=ExecutionStatus.values), LIMIT, OFFSET],
    )  # fmt: skip
    def get(self, request: Request, session_id: str) -> Response:
        """Newest first."""
        query = pagination.known_only(request, "status", "limit", "offset")
        session = sessions.find(request, session_id)
        rows = (
            Execution.objects.filter(session=session)
            .order_by("-number")
            .defer("code", "event", "stdout", "stderr", "return_value")
        )
        if status := pagination.choice(query, "status", ExecutionStatus.values):
            rows = rows.filter(status=status)
        return pagination.page(request, rows, "executions", lambda row: ExecutionItem(row).data)


class ExecutionView(APIView):
    """GET /executions/{id}."""

    @operation(
        "get_execution",
        "Get execution details",
        tag="executions",
        responses={200: ExecutionOut},
        errors=["ExecutionNotFound"],
    )
    def get(self, request: Request, execution_id: str) -> Response:
        """All of it: what was submitted, how it stands, and what it came to (before the end, as in /result)."""
        return Response(all_of(find(request, execution_id, reading.ALL)))


class StatusView(APIView):
    """GET /executions/{id}/status."""

    @operation("get_execution_status", "Get execution status", tag="executions", responses={200: StatusOut},
               errors=["ExecutionNotFound"], parameters=[WAIT])  # fmt: skip
    def get(self, request: Request, execution_id: str) -> Response:
        """`pending`, `running`, `completed`, `failed` or `timeout`."""
        return waited(request, execution_id, lambda execution: StatusOut(execution).data)


class ResultView(APIView):
    """GET /executions/{id}/result."""

    @operation("get_execution_result", "Get execution result", tag="executions", responses={200: ResultOut},
               errors=["ExecutionNotFound"], parameters=[WAIT], examples=[shown("Success", RESULT)])  # fmt: skip
    def get(self, request: Request, execution_id: str) -> Response:
        """Before the end: what output there is so far."""
        return waited(request, execution_id, result_of)


class CancelView(APIView):
    """POST /executions/{id}/cancel."""

    @operation("cancel_execution", "Cancel an execution", tag="executions", responses={200: StatusOut},
               errors=["ExecutionNotFound", "SessionNotFound", "Conflict"], parameters=[IDEMPOTENCY_KEY])  # fmt: skip
    def post(self, request: Request, execution_id: str) -> Response:
        """It ends as `failed` with `Sandbox.ExecCancelled`, soon. One that is done stays as it is."""
        execution = find(request, execution_id)
        if request.data:
            raise invalid("A cancellation takes no body")

        def act() -> Response:
            if execution.session.ended:
                raise sessions.not_found(execution.session_id)
            submit.cancel(execution)
            return Response(StatusOut(reload(execution)).data)

        return idempotency.once(request, act)


class EventsView(APIView):
    """GET /executions/{id}/events."""

    content_negotiation_class = AnyAccept

    @operation(
        "stream_execution_events", "Stream the events of an execution", tag="executions",
        responses={(200, "text/event-stream"): OpenApiTypes.STR, 204: None}, errors=["ExecutionNotFound"],
        parameters=[OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER, description="Resume behind this event.")],
        description="Server-Sent Events: `status`, `stdout`, `stderr` and at last `result`, each with an id that grows. The connection "
        "may end before the result: reconnect with `Last-Event-ID`, as every EventSource does. Works after the end too; whoever has "
        "the `result` already gets 204, which tells an EventSource to come no more. A `status` says "
        "which `attempt` it is: where a lost run is tried again (`retry_lost`), `running` comes again, and the output from its beginning.",
    )  # fmt: skip
    def get(self, request: Request, execution_id: str) -> HttpResponseBase:
        """200, or 204 where there is nothing more to tell. It never invents an end: `result` is sent when it is stored."""
        pagination.known_only(request)
        execution = find(request, execution_id)
        position = Position.parse(request.headers.get("Last-Event-ID", ""))
        if position.is_last_of(execution):
            return Response(status=204, headers={"Cache-Control": "no-store"})

        def frames() -> Iterator[str]:
            with waiting_place() as place:
                yield from Reader(execution, position, may_wait=place).events()

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingHttpResponse(frames(), content_type="text/event-stream; charset=utf-8", headers=headers)
