"""Bearer tokens and scopes."""

from __future__ import annotations

import re
from typing import Any, cast

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from sandbox_platform.models import ApiKey

TOKEN = re.compile(r"sbx_([a-z0-9]{12})_[A-Za-z0-9_-]{43}")
# How often a key's last use is written: once a minute, not once a request.
LAST_USE_GRAIN = 60
REFUSED = "The access token is missing, malformed, unknown, expired or revoked"


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`, the scheme in any case. `request.auth` is the ApiKey. One query, no cache."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey]:
        """Raises AuthenticationFailed; there are no anonymous requests below /api/v1."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        match = TOKEN.fullmatch(token.strip()) if scheme.lower() == "bearer" and len(token) < 200 else None
        key = self._live(match[1]) if match else None
        if key is None or not key.matches(token.strip()):
            raise exceptions.AuthenticationFailed(REFUSED)
        now = timezone.now()
        if key.last_used_at is None or abs((now - key.last_used_at).total_seconds()) > LAST_USE_GRAIN:
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
        return AnonymousUser(), key

    def _live(self, prefix: str) -> ApiKey | None:
        usable = Q(expires_at=None) | Q(expires_at__gt=Now())
        owned = Q(owner=None) | Q(owner__is_active=True)
        keys = ApiKey.objects.select_related("project").filter(usable, owned, prefix=prefix, revoked_at=None)
        return keys.first()

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
