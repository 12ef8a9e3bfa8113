"""What some tests need of the machine: Docker, bubblewrap, PostgreSQL, Redis.

A test that is marked with one of these names is skipped where it is missing, with the reason in a word.
REQUIRE=docker,postgres turns such skips into failures: a machine that should have it can't be green without it.
"""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import docker
import pytest
from django.conf import settings

from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.errors import DriverError
from runtime.egress import squid
from tests import postgres

REQUIRED = frozenset(filter(None, os.environ.get("REQUIRE", "").split(",")))


@functools.cache
def docker_missing() -> str:
    """Why there is no Docker, or nothing."""
    try:
        client = docker.DockerClient(base_url=os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"), timeout=5)
    except docker.errors.DockerException:
        return "no Docker engine answers"
    client.close()
    return ""


@functools.cache
def bubblewrap_missing() -> str:
    """Why bubblewrap can't be used, or nothing: the driver's own answer."""
    try:
        BubblewrapDriver("tests", Path("/nonexistent")).check()
    except DriverError as error:
        return str(error)
    return ""


def postgres_missing() -> str:
    """Why this is not PostgreSQL, or nothing: the runner makes a pass on each database."""
    return "" if settings.DATABASES["default"]["ENGINE"].endswith("postgresql") else "needs PostgreSQL"


def postgres_server_missing() -> str:
    """Why no PostgreSQL can be started, or nothing."""
    return "" if postgres.binaries() else "no PostgreSQL server is installed"


def chromium() -> str:
    """The browser's program, or nothing."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or ""


def npm_missing() -> str:
    """Why what comes from npm can't be had, or nothing."""
    return "" if shutil.which("npm") and shutil.which("node") else "npm is not installed"


@functools.cache
def browser_missing() -> str:
    """Why there is no browser to test with, or nothing."""
    if not chromium():
        return "Chromium is not installed"
    return npm_missing()


def redis_missing() -> str:
    """Why there is no Redis server, or nothing."""
    return "" if shutil.which("redis-server") else "redis-server is not installed"


def egress_missing() -> str:
    """Why there is no proxy to test with, or nothing."""
    if squid.program() is None:
        return "squid is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") and shutil.which("nsenter") else "iproute2 is not installed"


CHECKS = {
    "egress": egress_missing,
    "browser": browser_missing,
    "npm": npm_missing,
    "docker": docker_missing,
    "bubblewrap": bubblewrap_missing,
    "postgres": postgres_missing,
    "postgres server": postgres_server_missing,
    "redis": redis_missing,
}


def need(what: str) -> None:
    """Skip the test, or fail it where REQUIRE names what is missing."""
    missing = CHECKS[what]()
    if missing and what.partition(" ")[0] in REQUIRED and what != "postgres":
        pytest.fail(f"REQUIRE names {what}: {missing}", pytrace=False)
    if missing:
        pytest.skip(missing)
