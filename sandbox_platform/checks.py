"""System checks: settings that would make this installation unsafe or broken, with ids and hints."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register


@register()
def sandbox_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Run at every start."""
    found: list[CheckMessage] = []
    if settings.DEBUG:
        found.append(Warning("DEBUG is on: error pages show internals.", hint="Unset DEBUG.", id="sandbox.W001"))
    if len(settings.SECRET_KEY) < 32:
        found.append(
            Error("SECRET_KEY is shorter than 32 characters.", id="sandbox.E001",
                  hint="Unset it: one is made and kept in the state folder.")
        )  # fmt: skip
    if settings.DOCKER_URL.startswith(("tcp://", "http://")):
        found.append(
            Error("DOCKER_HOST is plain TCP: whoever reaches that port is root on the engine's host.", id="sandbox.E002",
                  hint="Use a Unix socket, or ssh://.")
        )  # fmt: skip
    if not 0 < settings.WEB_WAIT_SHARE < 1:
        found.append(Error("WEB_WAIT_SHARE must lie between 0 and 1.", hint="0.75 is the default.", id="sandbox.E003"))
    if settings.SESSION_IDLE_TIMEOUT < 60:
        found.append(Error("SESSION_IDLE_TIMEOUT is below 60 s.", hint="1800 is the default.", id="sandbox.E004"))
    if settings.REDIS_URL and find_spec("redis") is None:
        found.append(
            Error("REDIS_URL is set, but the redis package is not installed.", id="sandbox.E005",
                  hint="Type: .venv/bin/uv sync --frozen --inexact --extra redis")
        )  # fmt: skip
    elif settings.REDIS_URL and urlsplit(settings.REDIS_URL).scheme not in ("redis", "rediss", "unix"):
        found.append(
            Error("REDIS_URL is no URL of a Redis server.", id="sandbox.E006",
                  hint="redis://user:password@host:6379, rediss:// with TLS, or unix:///path/of/the.sock")
        )  # fmt: skip
    found += _egress()
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Warning("ALLOWED_HOSTS accepts any host.", hint="Name the hosts that clients use.", id="sandbox.W002")
        )
    return found


def _egress() -> list[CheckMessage]:
    """Addresses that are none would keep the proxy from starting."""
    found: list[CheckMessage] = []
    checks: list[tuple[str, str, Callable[[str], object]]] = [
        ("EGRESS_NAMESERVERS", "addresses, by commas: 192.0.2.53", ipaddress.ip_address),
        ("EGRESS_REFUSED_NETWORKS", "networks, by commas: 192.0.2.0/24", ipaddress.ip_network),
    ]
    for name, hint, parse in checks:
        for text in getattr(settings, name):
            try:
                parse(text)
            except ValueError as error:
                found.append(Error(f"{name}: {error}.", hint=f"It takes {hint}", id="sandbox.E007"))
    return found
