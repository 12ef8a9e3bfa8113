"""Add the seeded templates."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from templates_app import services


class Command(BaseCommand):
    """Safe to repeat."""

    help = "Add the templates of templates_app/seeds.yaml that are missing."

    def handle(self, **options: Any) -> None:
        """Print what was added."""
        added = services.load_seeds()
        self.stdout.write(f"Added {', '.join(added)}" if added else "Nothing to add")
