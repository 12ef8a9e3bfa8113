"""Which kind of runtime this host gets, its node, and the image that the first session needs."""

from __future__ import annotations

import textwrap

from django.conf import settings

from sandbox_platform.supervisor.console import CannotStart, Step, say, step

FIRST_TEMPLATE = "python-basic"


def prepare() -> str:
    """Choose the runtime, register the node, have the first image ready. The kind of runtime. Raises CannotStart.

    With SANDBOX_RUNTIME=auto, Docker is taken where an engine answers and its images can be had, else bubblewrap.
    """
    from runtime.drivers import registry
    from runtime.drivers.errors import DriverError
    from runtime.services import nodes

    with step("runtime") as current:
        try:
            choice = registry.detect(settings.SANDBOX_RUNTIME, docker_url=settings.DOCKER_URL)
        except DriverError as error:
            raise CannotStart(f"No sandboxes can be run here: {error}") from error
        current.done(f"{choice.runtime_type}: {textwrap.shorten(choice.reason, 110, placeholder=' ...')}")
    runtime_type, url = choice.runtime_type, choice.url
    refused = _first_image(runtime_type)
    if refused and runtime_type == "docker" and settings.SANDBOX_RUNTIME == "auto":
        say("runtime", f"bubblewrap, since Docker has no images: {refused}")
        runtime_type, url = "bubblewrap", ""
        refused = _first_image(runtime_type)
    if refused:
        raise CannotStart(f"The image of {FIRST_TEMPLATE} can't be made: {refused}")
    node = nodes.register(runtime_type, url)
    if not node.ready:
        raise CannotStart(f"No sandboxes can be run here: {node.detail}")
    return runtime_type


def order_other_images(runtime_type: str) -> list[str]:
    """Have the rest prepared behind the start. Templates that are not ready yet."""
    from runtime.models import Container, ContainerStatus
    from templates_app import services
    from templates_app.images.base import BuildFailed
    from templates_app.models import ImageStatus, TemplateImage

    kept = Container.objects.exclude(status=ContainerStatus.REMOVED).values_list("image", flat=True)
    try:
        services.prune(runtime_type, set(kept))
    except BuildFailed as error:
        raise CannotStart(str(error)) from error
    ordered = services.ensure_images(runtime_type)
    ready = TemplateImage.objects.filter(runtime_type=runtime_type, status=ImageStatus.READY)
    return sorted(set(ordered) - set(ready.values_list("template_id", flat=True)))


def _first_image(runtime_type: str) -> str:
    """Nothing if it is ready, else what is in the way."""
    from templates_app import services
    from templates_app.models import ImageStatus

    with step("image") as current:
        image = services.prepare(FIRST_TEMPLATE, runtime_type, say=lambda text: _progress(current, text))
        if image is not None and image.ref:
            current.done(f"{FIRST_TEMPLATE} is ready")
            return ""
        current.done(f"{FIRST_TEMPLATE} is not ready")
    if image is None:
        return "the template is gone: manage.py load_templates brings it back"
    return image.detail if image.status == ImageStatus.FAILED else "another process is at it"


def _progress(current: Step, text: str) -> None:
    if text != "Compiling":
        say("image", f"{text} ...")
