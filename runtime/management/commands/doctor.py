"""`manage.py doctor`: what this host enforces, what it cannot, and how to mend it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from runtime.doctor.findings import Level, table, verdict
from runtime.doctor.report import examine


class Command(BaseCommand):
    """Needs neither a database nor a running service."""

    help = "Say what this host enforces for sandboxes, what it cannot, and how to mend it."
    # What they would refuse is what this is to explain.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--strict", action="store_true", help="exit with 1 if anything must be mended")

    def handle(self, **options: Any) -> None:
        """Print the table."""
        findings = examine(settings.SANDBOX_RUNTIME, settings.DOCKER_URL, Path(settings.STATE_DIR))
        self.stdout.write(table(findings))
        self.stdout.write(f"\n{verdict(findings)}")
        if options["strict"] and any(finding.level == Level.PROBLEM for finding in findings):
            sys.exit(1)
