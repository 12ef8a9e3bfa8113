"""Bearer tokens and scopes."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, cast

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
# Every request asks this: see `direct` for why it is written out.
LIVE_KEY = f"""
    SELECT {", ".join(f"k.{name}" for name in KEY)}, p.id, p.name, k.scopes, (k.last_used_at IS NULL OR k.last_used_at < %s)
    FROM {ApiKey._meta.db_table} k JOIN {Project._meta.db_table} p ON p.id = k.project_id
    LEFT JOIN auth_user u ON u.id = k.owner_id
    WHERE k.prefix = %s AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > %s) AND (k.owner_id IS NULL OR u.is_active)
"""  # noqa: S608
REFUSED = "The access token is missing, malformed, unknown, expired or revoked"


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`, the scheme in any case. `request.auth` is the ApiKey. One query, no cache."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey]:
        """Raises AuthenticationFailed; there are no anonymous requests below /api/v1."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        match = TOKEN.fullmatch(token.strip()) if scheme.lower() == "bearer" and len(token) < 200 else None
        key = self._live(match[1], token.strip()) if match else None
        if key is None:
            raise exceptions.AuthenticationFailed(REFUSED)
        return AnonymousUser(), key

    def _live(self, prefix: str, token: str) -> ApiKey | None:
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
