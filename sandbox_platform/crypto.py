"""Encryption at rest for what tenants hand us in confidence (env_vars)."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import lru_cache

from cryptography.fernet import Fernet
from django.conf import settings


@lru_cache(maxsize=4)
def _fernet(secret: str) -> Fernet:
    digest = hashlib.sha256(b"sandbox env_vars " + secret.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(digest))


def seal(values: dict[str, str]) -> bytes:
    """Encrypt a flat map. The empty map is the empty string, so that most rows cost nothing."""
    return _fernet(settings.SECRET_KEY).encrypt(json.dumps(values).encode()) if values else b""


def unseal(sealed: bytes) -> dict[str, str]:
    """What `seal` was given. Raises `cryptography.fernet.InvalidToken` if the secret key has changed."""
    return json.loads(_fernet(settings.SECRET_KEY).decrypt(bytes(sealed))) if sealed else {}
