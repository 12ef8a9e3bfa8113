"""The steps that make an installation ready to be started. Each is safe to repeat and quick when there is nothing to do."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from sandbox_platform.models import SCOPES, ApiKey, Project
from sandbox_platform.supervisor.console import CannotStart, step

ADMIN = "admin"


@dataclass(frozen=True)
class Credentials:
    """The operator's. `new` says that they were made just now and have not been shown yet."""

    token: str
    password: str
    new: bool


def prepare_database() -> None:
    """Bring the tables up to date and load the seeded templates. Raises CannotStart."""
    from templates_app import services as templates

    with step("database") as current:
        _keep_to_ourselves()
        try:
            connection.ensure_connection()
        except DatabaseError as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise CannotStart(
                f"The database {_database_name()} can't be used: {reason}. Check DATABASE_URL."
            ) from error
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if pending:
            call_command("migrate", interactive=False, verbosity=0)
        templates.load_seeds()
        current.done(
            f"{_database_name()}, {len(pending)} migrations applied" if pending else f"{_database_name()}, up to date"
        )


def ensure_credentials() -> Credentials:
    """An admin and a token of project "default", made where they are missing and kept in the state folder, mode 0600."""
    token, password = _read("token"), _read("admin-password")
    new = False
    with transaction.atomic():
        users = get_user_model()._default_manager
        admin: Any = users.filter(username=ADMIN).first()
        if admin is None or not password:
            password, new = password or secrets.token_urlsafe(15), True
            admin = admin or users.create_superuser(ADMIN, "", password)  # type: ignore[attr-defined]
            admin.set_password(password)
            admin.save()
        project, _ = Project.objects.get_or_create(name="default")
        if not _works(token):
            _, token = ApiKey.issue(project, "operator", owner=admin, scopes=sorted(SCOPES))
            new = True
    if new:
        _write("token", token)
        _write("admin-password", password)
    return Credentials(token, password, new)


def shown(path: Path) -> str:
    """A path as people type it from where they are."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _works(token: str) -> bool:
    prefix = token.split("_")[1] if token.count("_") >= 2 else ""
    key = ApiKey.objects.filter(prefix=prefix, revoked_at=None).first()
    return key is not None and key.matches(token)


def _read(name: str) -> str:
    path = Path(settings.STATE_DIR) / name
    return path.read_text().strip() if path.exists() else ""


def _write(name: str, text: str) -> None:
    path = Path(settings.STATE_DIR) / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text + "\n")


def _keep_to_ourselves() -> None:
    """SQLite's files hold code, outputs and password hashes. They are made readable by all; those that come later take after the first."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        path = Path(database["NAME"])
        path.touch()
        for file in path.parent.glob(f"{path.name}*"):
            file.chmod(0o600)


def _database_name() -> str:
    """Without the password."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        return f"SQLite in {shown(Path(database['NAME']))}"
    place = database.get("HOST") or "the local socket"
    return f"PostgreSQL {database['NAME']} at {place}"
