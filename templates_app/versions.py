"""Versions of templates: what was said when and by whom, publishing one, and going back."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from sandbox_platform.errors import ApiError
from templates_app import services
from templates_app.images import names
from templates_app.models import (
    NOT_IN_SPEC,
    BuildStatus,
    ImageStatus,
    Template,
    TemplateBuild,
    TemplateImage,
    TemplateVersion,
    VersionStatus,
)
from templates_app.signals import image_ready


def spec_of(template: Template) -> dict[str, Any]:
    """Every column that decides what sessions get."""
    names = [field.name for field in Template._meta.concrete_fields if field.name not in NOT_IN_SPEC]
    return {name: getattr(template, name) for name in names}


def fresh_spec(pk: str) -> dict[str, Any]:
    """The same of a template of which nothing is said but its id."""
    return spec_of(Template(pk=pk, image=f"{names.PREFIX}{pk}"))


def said_by(version: TemplateVersion) -> dict[str, Any]:
    """The same of a version. Columns that came after it are at their defaults."""
    return spec_of(version.as_template())


def latest(template: Template) -> TemplateVersion | None:
    """The newest version, a draft or not."""
    return template.versions.order_by("-number").first()  # type: ignore[attr-defined]


def published(template: Template) -> TemplateVersion | None:
    """The one that sessions get."""
    return template.versions.filter(status=VersionStatus.PUBLISHED).first()  # type: ignore[attr-defined]


def record(template: Template, author: Any = None, note: str = "") -> TemplateVersion:
    """The template's row was written directly (by the API, from a file): keep what it says as its published version."""
    with transaction.atomic():
        lock(template)
        now = published(template)
        if now and said_by(now) == spec_of(template):
            return now
        return _publish(_add(template, spec_of(template), author, note))


def save_draft(template: Template, spec: dict[str, Any], author: Any, note: str = "") -> TemplateVersion:
    """Keep `spec` as a draft: in the newest one if it is the same author's and was not built yet, else in a new one."""
    with transaction.atomic():
        lock(template)
        newest = latest(template)
        if newest and said_by(newest) == spec:
            return newest
        if newest and _still_open(newest, author):
            newest.spec, newest.author, newest.note = spec, author, note
            newest.save()
            return newest
        return _add(template, spec, author, note)


def mark(version: TemplateVersion | None) -> str:
    """Changes with what the version says, also where its number stays: for who must know whether it is still what they saw."""
    if version is None:
        return "none"
    said = json.dumps(said_by(version), sort_keys=True)
    return f"{version.number}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _still_open(draft: TemplateVersion, author: Any) -> bool:
    mine = draft.author_id == (author.pk if author else None)  # type: ignore[attr-defined]
    return mine and draft.status == VersionStatus.DRAFT and not draft.builds.exists()  # type: ignore[attr-defined]


def good_builds(version: TemplateVersion) -> dict[str, TemplateBuild]:
    """By kind of runtime, its newest build that passed the smoke test."""
    builds = TemplateBuild.objects.filter(version=version, status=BuildStatus.SUCCEEDED).order_by("created_at")
    return {build.runtime_type: build for build in builds}


def publish(version: TemplateVersion) -> bool:
    """Sessions get this version from now on. False if they do already. 409 unless a build of it passed its smoke test."""
    builds = good_builds(version)
    with transaction.atomic():
        lock(version.template)
        version.refresh_from_db()
        if version.status == VersionStatus.PUBLISHED:
            return False
        if not builds and version.published_at is None:
            raise ApiError("Conflict", f"No build of {version} has passed its smoke test yet: build it first")
        template = Template.objects.get(pk=version.template_id)
        for name, value in {**said_by(version), "draft": False, "deleted_at": None}.items():
            setattr(template, name, value)
        template.save()
        _publish(version)
        ready = {kind: build for kind, build in builds.items() if build.ref in services.kept(kind)}
        for kind in builds.keys() - ready.keys():
            # What an earlier version was built into may have been removed since: sessions wait until it is made again.
            TemplateImage.objects.update_or_create(
                template=template, runtime_type=kind,
                defaults={"status": ImageStatus.PENDING, "ref": "", "fingerprint": "", "detail": "Waiting to be made again",
                          "attempts": 0, "builder": None},
            )  # fmt: skip
        for kind, build in ready.items():
            TemplateImage.objects.update_or_create(
                template=template, runtime_type=kind,
                defaults={"status": ImageStatus.READY, "ref": build.ref, "fingerprint": build.fingerprint, "detail": "", "attempts": 0},
            )  # fmt: skip
            image_ready.send(sender=TemplateImage, template_id=template.pk, runtime_type=kind)
        # Other kinds of runtime are made anew, and an image that was removed meanwhile is noticed and made again.
        services.check_images(template, except_for=set(ready))
    return True


def _publish(version: TemplateVersion) -> TemplateVersion:
    now = timezone.now()
    others = TemplateVersion.objects.filter(template=version.template_id, status=VersionStatus.PUBLISHED)
    others.exclude(pk=version.pk).update(status=VersionStatus.RETIRED)
    version.status, version.published_at = VersionStatus.PUBLISHED, now
    version.save(update_fields=["status", "published_at"])
    return version


def _add(template: Template, spec: dict[str, Any], author: Any, note: str) -> TemplateVersion:
    number = (template.versions.aggregate(most=Max("number"))["most"] or 0) + 1  # type: ignore[attr-defined]
    return TemplateVersion.objects.create(template=template, number=number, spec=spec, author=author, note=note[:200])


def lock(template: Template) -> None:
    """Until the end of the transaction nobody else writes the template or adds a version. SQLite's write transactions are that already."""
    list(Template.objects.select_for_update().filter(pk=template.pk).values_list("pk"))
