"""What only Docker can do wrong."""

import io
import secrets
import tarfile

import docker
import pytest

from runtime.drivers.errors import BootFailed
from tests.drivers.conftest import leftovers

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("kind", ["docker"], indirect=True)
def test_an_image_without_python(kind):
    client, tag = docker.from_env(), f"sandbox/driver-tests:{secrets.token_hex(6)}"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        text = b"FROM scratch\nCOPY Dockerfile /\n"
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=tag)
    spec = kind.spec(image=tag)
    try:
        with pytest.raises(BootFailed, match="python3"):
            kind.driver().create(spec)
    finally:
        client.images.remove(tag, force=True)
        client.close()
    assert leftovers(kind, spec.name) == []
