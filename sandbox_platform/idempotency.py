"""Idempotency-Key: the same key and body give the first answer again, also after a restart.

The record is written in the transaction of what it guards, so both are there or neither. A twin that is under way holds the row: the
second request waits for it in the database, for as long as the lock time-out lets it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, OperationalError, transaction
from django.db.models.functions import Now
from rest_framework.request import Request
from rest_framework.response import Response

from sandbox_platform.auth import key_of
from sandbox_platform.errors import ApiError, invalid
from sandbox_platform.middleware import request_id_of
from sandbox_platform.models import IdempotencyRecord
from sandbox_platform.renderers import JSONRenderer, RawJSON
from sandbox_platform.retention import delete_in_batches

KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT = 24 * 3600
KEPT_HEADERS = ("Location", "Preference-Applied", "Retry-After")
Act = Callable[[], Response]

_requests: Counter[tuple[Any, ...]] = Counter()  # under way in this process, by project, method, path and key
_lock = threading.Lock()


def asked(request: Request) -> bool:
    """Whether the request may be repeated."""
    return "Idempotency-Key" in request.headers


def once(request: Request, act: Act) -> Response:
    """Run `act` in a transaction, or give its first answer again. 4xx answers are kept, 5xx are not."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        with transaction.atomic():
            return act()
    if not KEY.fullmatch(key):
        raise invalid("Idempotency-Key must be 1 to 255 visible ASCII characters")
    body = json.dumps(request.data, sort_keys=True).encode()
    mark = {"project": key_of(request).project, "method": request.method, "path": request.path[:300], "key": key}
    fingerprint = hashlib.sha256(body).hexdigest()
    try:
        with _entered((key_of(request).project.pk, request.method or "", request.path, key)), transaction.atomic():
            record = IdempotencyRecord.objects.create(fingerprint=fingerprint, **mark)
            response = _run(request, act)
            _keep(record, response)
            return response
    except IntegrityError:
        first = IdempotencyRecord.objects.filter(**mark).first()
        if first is None:  # it was rolled back meanwhile, or it was another constraint
            raise
        return _replay(request, first, fingerprint)
    except OperationalError as error:
        # lock_not_available: the twin is still under way. SQLite can't tell whose lock it is, but this process knows its requests.
        if getattr(error.__cause__, "sqlstate", "") == "55P03" or isinstance(error, _TwinUnderWay):
            raise ApiError("Conflict", "A request with the same Idempotency-Key is still under way",
                           headers={"Retry-After": "2"}) from None  # fmt: skip
        raise


class _TwinUnderWay(OperationalError):
    """The database was locked all the while, and a request with the same key is under way."""


@contextmanager
def _entered(key: tuple[Any, ...]) -> Iterator[None]:
    with _lock:
        _requests[key] += 1
    try:
        yield
    except OperationalError as error:
        busy = getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
        if busy and _requests[key] > 1:
            raise _TwinUnderWay from error
        raise
    finally:
        with _lock:
            _requests[key] -= 1
            if not _requests[key]:
                del _requests[key]


def amend(request: Request, response: Response) -> Response:
    """The answer after a wait is the first answer: remember it in place of the early one."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and "Idempotent-Replayed" not in response.headers:
        record = IdempotencyRecord.objects.filter(
            project=key_of(request).project, method=request.method, path=request.path[:300], key=key
        ).first()
        if record is not None:
            _keep(record, response)
    return response


def _run(request: Request, act: Act) -> Response:
    try:
        with transaction.atomic():
            return act()
    except ApiError as error:
        if error.status >= 500:
            raise
        return Response(error.body(request_id_of(request)), status=error.status, headers=error.headers)


def _keep(record: IdempotencyRecord, response: Response) -> None:
    record.status = response.status_code
    record.headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    record.body = JSONRenderer().render(response.data).decode()
    record.save(update_fields=["status", "headers", "body"])


def _replay(request: Request, record: IdempotencyRecord, fingerprint: str) -> Response:
    if record.fingerprint != fingerprint:
        raise ApiError(
            "Conflict", "This Idempotency-Key was used with another body", solution="Use a new key for a new request"
        )
    headers = {**record.headers, "Idempotent-Replayed": "true"}
    if record.status >= 400:  # the envelope names the request that it answers
        return Response(
            {**json.loads(record.body), "request_id": request_id_of(request)}, status=record.status, headers=headers
        )
    return Response(RawJSON(record.body), status=record.status, headers=headers)


def forget_old() -> None:
    """Answers are kept for KEPT seconds."""
    delete_in_batches(IdempotencyRecord.objects.filter(created_at__lt=Now() - dt.timedelta(seconds=KEPT)))


def is_known(request: Request) -> bool:
    """True if an answer is remembered under the request's key."""
    key = request.headers.get("Idempotency-Key", "")
    mark = {"project": key_of(request).project, "method": request.method, "path": request.path[:300], "key": key}
    return bool(key) and IdempotencyRecord.objects.filter(**mark).exists()
