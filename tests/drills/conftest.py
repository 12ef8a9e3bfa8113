"""A whole service in this process, on a Docker engine of the test's own: real workers, real sandboxes, real faults."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import docker
import pytest

from runtime.models import Container, ContainerStatus
from runtime.services import nodes, reconciler
from sessions_app.services import lifecycle
from templates_app import services as templates
from tests import requirements, workers
from tests.api.client import Api, eventually
from tests.engine import Engine
from tests.factories import TemplateFactory

IMAGES = ("sandbox/base:bookworm", "sandbox/python:3.11-basic")
SLOW = pytest.mark.skipif(not os.environ.get("DRILLS"), reason="a slow drill: `make drills` runs it")


@pytest.fixture(scope="session")
def own_engine() -> Iterator[Engine]:
    """One for all drills of a process."""
    requirements.need("docker")
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a Docker engine of our own needs root and dockerd")
    client = docker.from_env()
    there = {tag for image in client.images.list() for tag in image.tags}
    client.close()
    if not set(IMAGES) <= there:
        (pytest.fail if "docker" in requirements.REQUIRED else pytest.skip)("no images: manage.py build_images")
    made = Engine()
    try:
        made.start()
        made.copy_images(*IMAGES)
        yield made
    finally:
        made.remove()


@pytest.fixture
def engine(own_engine: Engine) -> Engine:
    """It runs, whatever the test before did to it."""
    if not own_engine.answers():
        own_engine.start()
    return own_engine


@pytest.fixture
def drill(engine: Engine, transactional_db: None, settings: pytest.FixtureRequest) -> Iterator[Api]:
    """A client of the service. Nothing of it may be left in the end."""
    settings.DOCKER_URL = engine.url
    TemplateFactory()
    nodes.register("docker", engine.url)
    image = templates.prepare("python-basic", "docker")
    assert image is not None and image.ref, image
    with workers.running():
        yield Api()
        eventually(lambda: nodes.Node.objects.get().ready, 60)
        lifecycle.end_all("the test is over")
        assert lifecycle.wait_released(40)
    reconciler.remove_everything()
    left = Container.objects.exclude(status=ContainerStatus.REMOVED).values_list("name", "status", "detail")
    assert not left, list(left)
    assert not list((settings.STATE_DIR / "sandboxes").glob("*"))
    assert not engine.client.containers.list(all=True)
