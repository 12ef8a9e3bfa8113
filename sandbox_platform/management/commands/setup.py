"""Make this installation ready without starting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from sandbox_platform.supervisor import engine, logfile, setup
from sandbox_platform.supervisor.console import CannotStart, say


class Command(BaseCommand):
    """Safe to repeat."""

    help = "Migrate, load the templates, make the admin and the token, choose the runtime and prepare its first image."

    def handle(self, **options: Any) -> None:
        """One line a step."""
        logfile.log_here(Path(settings.STATE_DIR) / "logs" / "supervisor.log")
        try:
            setup.prepare_database()
            credentials = setup.ensure_credentials()
            engine.prepare()
        except CannotStart as error:
            raise CommandError(str(error)) from error
        if credentials.new:
            say("token", credentials.token)
            say("admin", f"{setup.ADMIN} / {credentials.password}")
