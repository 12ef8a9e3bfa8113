"""An engine that has something else under the name `runsc`: what only gVisor may be given must do nothing there, and no sandbox come up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runtime.drivers.errors import AttestationFailed, BootFailed
from tests.containment import matrix
from tests.drills.conftest import SLOW
from tests.drivers.conftest import BASE_IMAGE, context
from tests.engine import RUNSC, Engine

pytestmark = [SLOW, pytest.mark.docker, pytest.mark.timeout(120), pytest.mark.xdist_group("own-engine")]


@pytest.mark.parametrize(
    ("runtime", "error", "words"),
    [
        ({"path": shutil.which("runc") or "/usr/sbin/runc"}, BootFailed, "not_gvisor"),
        ({**RUNSC, "runtimeArgs": ["--host-uds=create", "--network=none"]}, AttestationFailed, "seccomp mode 0"),
    ],
    ids=["runc", "no filter inside"],
)
def test_no_sandbox_comes_up(tmp_path, runtime, error, words):
    if not Path(runtime["path"]).exists():
        pytest.skip(f"{runtime['path']} is not installed")
    engine = Engine(runsc=runtime)
    try:
        engine.start()
        engine.copy_images(BASE_IMAGE)
        engine.client.images.build(fileobj=context(), custom_context=True, tag=matrix.IMAGE, rm=True)
        with pytest.raises(error) as raised:
            matrix.docker(matrix.IMAGE, tmp_path / "state", engine.url, "runsc")
        assert words in f"{raised.value} {vars(raised.value)}"
        assert engine.client.containers.list(all=True) == []
    finally:
        engine.remove()
