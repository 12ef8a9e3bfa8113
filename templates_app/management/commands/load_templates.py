"""Templates from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from templates_app import exchange, services


class Command(BaseCommand):
    """Safe to repeat."""

    help = (
        "Without a file: add the templates of templates_app/seeds.yaml that are missing, and leave the others alone. "
        "With one: make its templates say what it says. What is not in the file stays."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("file", nargs="?", type=Path, help="YAML, as the console exports it")
        parser.add_argument("--export", action="store_true", help="print all templates as such a file instead")

    def handle(self, **options: Any) -> None:
        """Print what was done."""
        from templates_app.models import Template

        if options["export"]:
            self.stdout.write(exchange.dump(Template.objects.visible()), ending="")
        elif options["file"]:
            try:
                done = exchange.load(options["file"].read_text(), note=f"From {options['file'].name}")
            except (OSError, UnicodeDecodeError, exchange.Unusable) as error:
                raise CommandError(str(error)) from error
            self.stdout.write(
                "; ".join(f"{len(ids)} {how}{': ' if ids else ''}{', '.join(ids)}" for how, ids in done.items())
            )
        else:
            added = services.load_seeds()
            self.stdout.write(f"Added {', '.join(added)}" if added else "Nothing to add")
