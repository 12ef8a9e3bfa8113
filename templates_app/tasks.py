"""Tasks of templates: ids in, nothing out, safe to repeat."""

from __future__ import annotations

from templates_app import building, services


def prepare_image(template_id: str, runtime_type: str) -> None:
    """Have a template's image ready; the row says how it went."""
    services.prepare(template_id, runtime_type)


def tick() -> None:
    """Now and then: order again what failed or was lost."""
    building.bury_the_dead()
    services.retry_due()
