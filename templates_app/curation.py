"""What writing a template entails."""

from __future__ import annotations

from templates_app import services, versions
from templates_app.models import Template, TemplateImage

LIVE = ("creating", "running")


def prepare_everywhere(template: Template) -> None:
    """Its row was written: keep that as its published version, and order its image for every kind of runtime there is."""
    versions.record(template)
    kinds = set(TemplateImage.objects.values_list("runtime_type", flat=True).distinct())
    for kind in kinds:
        services.image_for(template, kind)
    services.rebuild(template)


def in_use(template: Template) -> bool:
    """True while a live session has it. Asked through the reverse relation: templates do not import sessions."""
    return template.sessions.filter(status__in=LIVE).exists()  # type: ignore[attr-defined]
