"""Bearer tokens and scopes."""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import Any, ClassVar, cast

from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from sandbox_platform import direct
from sandbox_platform.models import ApiKey, Project

TOKEN = re.compile(r"sbx_([a-z0-9]{12})_[A-Za-z0-9_-]{43}")
# How often a key's last use is written: once a minute, not once a request.
LAST_USE_GRAIN = 60
KEY = ("id", "name", "prefix", "digest")
LIVE = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > %s) AND (k.owner_id IS NULL OR u.is_active)"
# Every request asks this: see `direct` for why it is written out.
LIVE_KEY = f"""
    SELECT {", ".join(f"k.{name}" for name in KEY)}, p.id, p.name, k.scopes, (k.last_used_at IS NULL OR k.last_used_at < %s)
    FROM {ApiKey._meta.db_table} k JOIN {Project._meta.db_table} p ON p.id = k.project_id
    LEFT JOIN auth_user u ON u.id = k.owner_id
    WHERE k.prefix = %s AND {LIVE}
"""  # noqa: S608
# Where a statement asks it on its way, of a key that was read before: see `BearerAuthentication`.
STILL_LIVE = f"""
    EXISTS (SELECT 1 FROM {ApiKey._meta.db_table} k LEFT JOIN auth_user u ON u.id = k.owner_id
        WHERE k.id = %s AND k.digest = %s AND k.project_id = %s AND {LIVE})
"""  # noqa: S608
REMEMBERED = 30.0  # seconds, by the monotonic clock
MOST_REMEMBERED = 1000
REFUSED = "The access token is missing, malformed, unknown, expired or revoked"


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`, the scheme in any case. `request.auth` is the ApiKey, by one query.

    A view whose work is one statement that asks for itself whether the key is live (`STILL_LIVE`) saves a round trip: it sets
    `confirms_key`, and with a POST may be given a key that this process read a moment ago. Before it does anything else it calls `confirm`.
    """

    _seen: ClassVar[dict[str, tuple[float, ApiKey]]] = {}

    def authenticate(self, request: Request) -> tuple[Any, ApiKey]:
        """Raises AuthenticationFailed; there are no anonymous requests below /api/v1."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        match = TOKEN.fullmatch(token) if scheme.lower() == "bearer" and len(token) < 200 else None
        key = None
        if match:
            view = request.parser_context["view"]
            later = request.method == "POST" and getattr(view, "confirms_key", False) and direct.chains()
            key = self._seen_lately(request, match[1], token) if later else self.live(match[1], token)
        if key is None:
            raise exceptions.AuthenticationFailed(REFUSED)
        return AnonymousUser(), key

    def _seen_lately(self, request: Request, prefix: str, token: str) -> ApiKey | None:
        """One that may have been revoked within the last half minute."""
        until, key = self._seen.get(prefix, (0.0, None))
        if key is not None and time.monotonic() < until and key.matches(token):
            request.unconfirmed = True  # type: ignore[attr-defined]
            return key
        key = self.live(prefix, token)
        if key is not None:
            if len(self._seen) >= MOST_REMEMBERED:
                self._seen.clear()
            self._seen[prefix] = (time.monotonic() + REMEMBERED, key)
        return key

    def live(self, prefix: str, token: str) -> ApiKey | None:
        """The key of that token, if it is to be let in."""
        now = timezone.now()
        moment = ApiKey._meta.get_field("last_used_at").get_db_prep_save
        grain = moment(now - dt.timedelta(seconds=LAST_USE_GRAIN), connection)
        row = direct.one(LIVE_KEY, [grain, prefix, moment(now, connection)])
        if row is None:
            return None
        *of_key, project_id, project_name, scopes, stale = row
        key = direct.partial(ApiKey, {**dict(zip(KEY, of_key, strict=True)), "scopes": scopes})
        key.project = direct.partial(Project, {"id": project_id, "name": project_name})
        if not key.matches(token):
            return None
        if stale:
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
        return key

    def authenticate_header(self, request: Request) -> str:
        """For WWW-Authenticate: makes DRF answer 401 instead of 403."""
        return 'Bearer realm="sandbox"'


def confirm(request: Request) -> None:
    """Ask for the key, where it was only remembered. Raises AuthenticationFailed."""
    if getattr(request, "unconfirmed", False):
        token = request.headers["Authorization"].partition(" ")[2].strip()
        key = BearerAuthentication().live(key_of(request).prefix, token)
        if key is None:
            raise exceptions.AuthenticationFailed(REFUSED)
        request.auth = key
        confirmed(request)


def confirmed(request: Request) -> None:
    """A statement has just found the key live."""
    request.unconfirmed = False  # type: ignore[attr-defined]


def still_live_params(key: ApiKey) -> list[Any]:
    """Of STILL_LIVE."""
    return [key.pk, key.digest, key.project.pk, timezone.now()]


def key_of(request: Request) -> ApiKey:
    """The key that the request was authenticated with."""
    return cast(ApiKey, request.auth)


class HasScope(BasePermission):
    """A view names the scopes that its methods need: `scopes = {"POST": "templates:write"}`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """True where the method needs no scope or the key has it."""
        needed = getattr(view, "scopes", {}).get(request.method)
        if needed and needed not in key_of(request).scopes:
            raise exceptions.PermissionDenied(f"The access token lacks the scope {needed!r}")
        return True


class BearerScheme(OpenApiAuthenticationExtension):
    """Names the scheme in the OpenAPI document."""

    target_class = BearerAuthentication
    name = "BearerAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """HTTP bearer."""
        return {"type": "http", "scheme": "bearer", "description": "An access token of a project: `sbx_...`"}
