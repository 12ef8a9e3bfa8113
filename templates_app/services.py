"""Templates and their images: seeding, and keeping each image in step with what goes into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
import yaml
from django.db import transaction
from django.db.models import F

from sandbox_platform import processes
from sandbox_platform.models import Process
from sandbox_platform.queue import Queue, depth, enqueue
from templates_app.images.base import Bootstrap, Builder, BuildFailed, Recipe, Say
from templates_app.images.bubblewrap import BubblewrapBuilder
from templates_app.models import BuildStatus, ImageStatus, Template, TemplateBuild, TemplateImage
from templates_app.signals import image_ready

log = structlog.get_logger(__name__)
SEEDS = Path(__file__).with_name("seeds.yaml")


def _docker_builder() -> Builder:
    from templates_app.images.docker import DockerBuilder  # Docker's SDK takes 0.4 s to import

    return DockerBuilder()


BUILDERS: dict[str, Any] = {"docker": _docker_builder, "bubblewrap": BubblewrapBuilder}
MAX_ATTEMPTS = 3
# Images of earlier versions that stay for a roll-back.
KEPT = 5


def load_seeds() -> list[str]:
    """Add the seeded templates that are missing. Their ids. What an operator changed or deleted stays as it is."""
    from templates_app import versions  # which builds upon this

    added = []
    with transaction.atomic():
        for seed in yaml.safe_load(SEEDS.read_text()):
            template, created = Template.objects.get_or_create(id=seed["id"], defaults=seed)
            if created:
                versions.record(template, note="Seeded")
                added.append(template.pk)
    return added


def image_for(template: Template, runtime_type: str) -> TemplateImage:
    """The row that tells whether the template can be started there. Made, and ordered, where there is none yet."""
    image, created = TemplateImage.objects.get_or_create(template=template, runtime_type=runtime_type)
    if created:
        _order(image)
    return image


def ensure_images(runtime_type: str) -> list[str]:
    """At a start: order a look at every image, light ones first. What is up to date takes a moment. The ids."""
    templates = sorted(Template.objects.visible(), key=weight)
    for template in templates:
        _order(TemplateImage.objects.get_or_create(template=template, runtime_type=runtime_type)[0])
    return [template.pk for template in templates]


def retry_due() -> None:
    """For the ticker: order again what is not ready and under nobody's hands, MAX_ATTEMPTS times at most."""
    if depth(Queue.BUILDS) or building():
        return
    due = TemplateImage.objects.exclude(status=ImageStatus.READY).filter(
        attempts__lt=MAX_ATTEMPTS, template__deleted_at=None
    )
    for image in sorted(due.select_related("template"), key=lambda image: weight(image.template)):
        _order(image)


def building() -> bool:
    """Whether a living process is preparing an image."""
    images = TemplateImage.objects.filter(status=ImageStatus.BUILDING, builder__in=_living())
    builds = TemplateBuild.objects.filter(status__in=[BuildStatus.BUILDING, BuildStatus.TESTING], builder__in=_living())
    return images.exists() or builds.exists()


def rebuild(template: Template) -> None:
    """The template changed, or an operator asks: make its images anew. Sessions use the last good ones meanwhile."""
    for image in TemplateImage.objects.filter(template=template):
        image.move(ImageStatus.PENDING, attempts=0, detail="Waiting to be prepared")
        _order(image)


def image_missing(template: Template, runtime_type: str, ref: str) -> None:
    """The engine has lost the image `ref`: later sessions wait until it is made anew, rather than fail one by one."""
    image = TemplateImage.objects.filter(template=template, runtime_type=runtime_type, ref=ref).first()
    if image and image.move(ImageStatus.PENDING, ref="", attempts=0, detail="Its image is gone and is made anew"):
        log.warning("image_missing", template=template.pk, runtime=runtime_type, image=ref)
        _order(image)


def check_images(template: Template, except_for: set[str]) -> None:
    """After a change: order a look at each image, which is made anew where it does not fit any more.

    Those of the kinds `except_for` are looked at too, but are taken as ready until then.
    """
    for image in TemplateImage.objects.filter(template=template):
        if image.runtime_type not in except_for:
            image.move(ImageStatus.PENDING, attempts=0, detail="Waiting to be prepared")
        _order(image)


def prepare(
    template_id: str, runtime_type: str, *, bootstrap: Bootstrap = Bootstrap.IF_NEEDED, say: Say | None = None
) -> TemplateImage | None:
    """Have the image ready, in this process. Safe to repeat; does nothing where it is up to date or in other hands.

    The row says how it went: `ready` with `ref`, or `failed` with `detail`. None if there is no such template.
    """
    template = Template.objects.visible().filter(pk=template_id).first()
    if template is None:
        return None
    image, _ = TemplateImage.objects.get_or_create(template=template, runtime_type=runtime_type)
    recipe = recipe_of(template, bootstrap)
    try:
        if image.status == ImageStatus.READY and _up_to_date(image, recipe):
            return image
        if not _claim(image):
            return image
        _build(image, recipe, say or (lambda line: None))
    except BuildFailed as error:
        _fail(image, str(error))
    except Exception as error:
        log.exception("image_failed", template=template_id, runtime=runtime_type)
        _fail(image, f"Unexpected: {type(error).__name__}: {error}")
    return image


def prune(runtime_type: str, in_use: set[str]) -> list[str]:
    """Remove images that neither a row nor any of `in_use` (references that sandboxes have) names. What was removed."""
    if building():
        return []
    removed = builder_of(runtime_type).prune(in_use | kept(runtime_type))
    if removed:
        log.info("images_removed", runtime=runtime_type, images=removed)
    return removed


def kept(runtime_type: str) -> set[str]:
    """References of images that `prune` leaves there, whether a sandbox has them or not. Others may be gone at any moment."""
    rows = TemplateImage.objects.filter(runtime_type=runtime_type).exclude(ref="")
    return set(rows.values_list("ref", flat=True)) | _kept_builds(runtime_type)


def _kept_builds(runtime_type: str) -> set[str]:
    """Images that a roll-back may want: of the last KEPT good builds of each template."""
    good = TemplateBuild.objects.filter(
        runtime_type=runtime_type, status=BuildStatus.SUCCEEDED, version__template__deleted_at=None
    )
    kept: dict[str, list[str]] = {}
    for template, ref in good.order_by("-created_at").values_list("version__template_id", "ref"):
        refs = kept.setdefault(template, [])
        if ref not in refs and len(refs) < KEPT:
            refs.append(ref)
    return {ref for refs in kept.values() for ref in refs}


def _up_to_date(image: TemplateImage, recipe: Recipe) -> bool:
    builder = builder_of(image.runtime_type)
    fingerprint = builder.fingerprint(recipe, lambda line: None)
    return image.fingerprint == fingerprint and builder.find(recipe, fingerprint) == image.ref


def _claim(image: TemplateImage) -> bool:
    """Take the row for this process; from a builder that died, too. False where a living one has it."""
    rows = TemplateImage.objects.filter(pk=image.pk)
    rows.filter(status=ImageStatus.BUILDING).exclude(builder__in=_living()).move(ImageStatus.PENDING)
    rows.filter(status__in=[ImageStatus.READY, ImageStatus.FAILED]).move(ImageStatus.PENDING)
    won = rows.move(
        ImageStatus.BUILDING, builder=processes.own_id(), attempts=F("attempts") + 1, detail="Preparing"
    )  # fmt: skip
    image.refresh_from_db()
    return bool(won)


def _build(image: TemplateImage, recipe: Recipe, say: Say) -> None:
    def tell(line: str) -> None:
        if not line:  # only asks whether to go on
            return
        log.info("image_progress", template=recipe.template_id, runtime=image.runtime_type, step=line)
        TemplateImage.objects.filter(pk=image.pk, status=ImageStatus.BUILDING).update(detail=line)
        say(line)

    builder = builder_of(image.runtime_type)
    fingerprint = builder.fingerprint(recipe, tell)
    ref = builder.find(recipe, fingerprint) or builder.build(recipe, fingerprint, tell)
    if _mine(image).move(ImageStatus.READY, ref=ref, fingerprint=fingerprint, detail="", builder=None, attempts=0):
        image.refresh_from_db()
        log.info("image_ready", template=recipe.template_id, runtime=image.runtime_type)
        image_ready.send(sender=TemplateImage, template_id=recipe.template_id, runtime_type=image.runtime_type)


def _fail(image: TemplateImage, reason: str) -> None:
    """Tell the row. One that was ready stays so: its image can still be started."""
    log.warning("image_failed", template=image.template_id, runtime=image.runtime_type, reason=reason)
    _mine(image).move(ImageStatus.FAILED, detail=reason[:4000], builder=None)
    image.refresh_from_db()


def _mine(image: TemplateImage) -> Any:
    """The row, as long as this process is its builder."""
    return TemplateImage.objects.filter(pk=image.pk, builder=processes.own_id())


def _living() -> Any:
    return Process.objects.filter(dead_at=None).values("id")


def builder_of(runtime_type: str) -> Builder:
    """What makes images for that kind of runtime. Raises BuildFailed."""
    if runtime_type not in BUILDERS:
        raise BuildFailed(f"There are no images for the runtime {runtime_type!r}")
    builder: Builder = BUILDERS[runtime_type]()
    return builder


def _order(image: TemplateImage) -> None:
    enqueue(Queue.BUILDS, "templates_app.tasks.prepare_image", image.template_id, image.runtime_type)


def weight(template: Template) -> tuple[int, str]:
    """Light templates first: few packages, then node."""
    packages = len(template.pre_installed_packages) + len(template.npm_packages)
    return (2 * packages + ("javascript" in template.languages), template.pk)


def recipe_of(template: Template, bootstrap: Bootstrap) -> Recipe:
    """What goes into its image."""
    return Recipe(
        template_id=template.pk,
        image=template.image,
        base_image=template.base_image,
        languages=tuple(template.languages),
        requirements=tuple(template.pre_installed_packages),
        npm_packages=tuple(template.npm_packages),
        bootstrap=bootstrap,
    )
