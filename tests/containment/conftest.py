"""Images for the quick round."""

from tests.drivers.conftest import docker_images  # noqa: F401 (a fixture)
