"""Prepare template images in the foreground."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from templates_app import services
from templates_app.images.base import Bootstrap
from templates_app.models import ImageStatus, Template


class Command(BaseCommand):
    """One line a step, non-zero exit if any fails."""

    help = "Prepare the images of all templates, or of one, and record them. What is up to date is left alone."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--runtime", choices=sorted(services.BUILDERS), default="docker")
        parser.add_argument("--template", metavar="ID", help="only this template")
        parser.add_argument(
            "--bootstrap", nargs="?", choices=["if-needed", "always"], const="if-needed", default="never",
            help="make the base system from Debian packages where it can't be pulled (or always), as root",
        )  # fmt: skip

    def handle(self, **options: Any) -> None:
        """Build one after another."""
        services.load_seeds()
        templates = sorted(Template.objects.visible(), key=services.weight)
        if options["template"]:
            templates = [template for template in templates if template.pk == options["template"]]
            if not templates:
                raise CommandError(f"There is no template {options['template']!r}")
        failed = [template.pk for template in templates if not self._prepare(template.pk, options)]
        if failed:
            raise CommandError(f"Not ready: {', '.join(failed)}")

    def _prepare(self, template_id: str, options: dict[str, Any]) -> bool:
        began = time.monotonic()

        def say(line: str) -> None:
            self.stdout.write(f"{template_id}: {line}")
            self.stdout.flush()

        image = services.prepare(template_id, options["runtime"], bootstrap=Bootstrap(options["bootstrap"]), say=say)
        ready = image is not None and image.status == ImageStatus.READY
        ref = image.ref if image else ""
        say(
            f"ready in {time.monotonic() - began:.1f} s: {ref}"
            if ready
            else f"failed: {image.detail if image else 'gone'}"
        )
        return ready
