"""The API, without sandboxes (`api`, rows only) and with real ones (`live`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from runtime.models import Container, ContainerStatus
from runtime.services import nodes, reconciler
from sandbox_platform import storage_url
from sessions_app.services import lifecycle
from templates_app import services as templates
from tests import requirements, workers
from tests.api.client import Api
from tests.factories import NodeFactory, TemplateFactory, TemplateImageFactory
from tests.s3 import Server, Wire


@pytest.fixture
def api(db: None) -> Api:
    """A client whose node and template exist as rows. Nothing runs: for what is decided before a sandbox is needed."""
    NodeFactory()
    TemplateImageFactory()
    return Api()


@pytest.fixture
def stranger(api: Api) -> Api:
    """A client of another project."""
    return Api()


@pytest.fixture
def live(transactional_db: None) -> Iterator[Api]:
    """A client of a whole service in this process: real bubblewrap sandboxes, real workers."""
    requirements.need("bubblewrap")
    TemplateFactory()
    nodes.register("bubblewrap")
    image = templates.prepare("python-basic", "bubblewrap")
    assert image is not None and image.ref, image
    with workers.running():
        yield Api()
        lifecycle.end_all("the test is over")
        assert lifecycle.wait_released(20)
    reconciler.remove_everything()
    left = Container.objects.exclude(status=ContainerStatus.REMOVED).values_list("name", "status", "detail")
    assert not left, list(left)
    assert not list((settings.STATE_DIR / "sandboxes").glob("*"))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def wire(s3_server: Server, settings: Any) -> Iterator[Wire]:
    """The service's files go to S3, through a wire of this test's own."""
    wire = Wire(s3_server.port)
    settings.STORAGES = {**settings.STORAGES, "workspaces": storage_url.workspaces(wire.url, Path("/nowhere"))}
    yield wire
    wire.close()


@pytest.fixture(params=["folder", "s3"])
def either(request: pytest.FixtureRequest) -> Any:
    """Each kind of storage."""
    return request.getfixturevalue("wire") if request.param == "s3" else None
