"""What the tests of the drivers share: images to start from, drivers of both kinds, and what is looked for afterwards."""

import io
import os
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest

from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.docker import DockerDriver
from runtime.drivers.executor_client import ExecutorClient, Output, RunRequest
from runtime.drivers.types import SandboxSpec, SandboxState
from tests.requirements import REQUIRED

EXECUTOR = Path(__file__).parents[2] / "executor"
BASE_IMAGE = "sandbox/base:bookworm"
OCI_RUNTIME = os.environ.get("TEST_OCI_RUNTIME", "runc")
"""`python -m tests.gvisor` runs the contract suite with runsc."""
GVISOR = OCI_RUNTIME == "runsc"
LINGERS = 2.0
UNKNOWN = "sbx-0000000000000000"


@dataclass
class Kind:
    """One kind of driver: how to make one, the image to start from, and how to make images that misbehave."""

    name: str
    image: str
    build: object  # main program of an executor, or None for the real one -> image
    state: Path
    instance: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}")

    def driver(self, instance=None, state=None):
        instance, state = instance or self.instance, state or self.state
        return DockerDriver(instance, state) if self.name == "docker" else BubblewrapDriver(instance, state)

    def spec(self, **changes):
        changes.setdefault("name", f"sbx-{secrets.token_hex(8)}")
        changes.setdefault("image", self.image)
        if self.name == "docker":
            changes.setdefault("oci_runtime", OCI_RUNTIME)
        return SandboxSpec(**changes)


@pytest.fixture(scope="session")
def docker_images():
    """Builds images by their executor's main program, on another base; all are removed in the end."""
    client = docker.from_env(timeout=60)
    try:
        client.images.get(BASE_IMAGE)
    except docker.errors.ImageNotFound:
        give_up = pytest.fail if "docker" in REQUIRED else pytest.skip
        give_up(f"no image {BASE_IMAGE}: `manage.py build_images --bootstrap` makes it")
    made = {}

    def build(main=None, base=BASE_IMAGE):
        if (main, base) not in made:
            tag = f"sandbox/driver-tests:{secrets.token_hex(6)}"
            client.images.build(fileobj=context(main, base), custom_context=True, tag=tag, rm=True)
            made[main, base] = tag
        return made[main, base]

    yield build
    for tag in made.values():
        client.images.remove(tag, force=True, noprune=True)
    client.close()


def context(main=None, base=BASE_IMAGE):
    """What an image is built from."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        _add(tar, "Dockerfile", f"FROM {base}\nCOPY executor /opt/sandbox/executor\n")
        if main is None:
            with tempfile.TemporaryDirectory() as folder:
                _copy_executor(Path(folder) / "executor")
                tar.add(Path(folder) / "executor", "executor")
        else:
            _add(tar, "executor/__main__.py", main)
    context.seek(0)
    return context


def _copy_executor(folder):
    """Compiled like the images' own, whose byte code is never compared with its source."""
    shutil.copytree(EXECUTOR, folder, ignore=shutil.ignore_patterns("__pycache__"))
    compile_all = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", folder]
    subprocess.run(compile_all, check=True)


def _add(tar, name, text):
    info = tarfile.TarInfo(name)
    info.size = len(text)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(text.encode()))


@pytest.fixture(scope="session")
def bubblewrap_images(tmp_path_factory):
    """The same, as folders."""
    made = {}

    def build(main=None):
        if main not in made:
            folder = tmp_path_factory.mktemp("image")
            folder.chmod(0o755)
            (folder / "site").mkdir()
            if main is None:
                _copy_executor(folder / "executor")
            else:
                (folder / "executor").mkdir()
                (folder / "executor" / "__main__.py").write_text(main)
            made[main] = str(folder)
        return made[main]

    return build


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ]
)
def kind(request, tmp_path):
    """Each kind of driver in turn, with a state folder and an instance of its own. Nothing may be left of it."""
    build = request.getfixturevalue(f"{request.param}_images")
    found = Kind(name=request.param, image=build(), build=build, state=tmp_path / "state")
    yield found
    driver = found.driver()
    for sandbox in driver.list():
        driver.remove(sandbox.name)


def run(sandbox, code, language="python", timeout=20.0, **request):
    """Run code; gives the result, and stdout and stderr as text."""
    client = ExecutorClient(sandbox.socket)
    run_id = secrets.token_hex(8)
    streams = {"stdout": b"", "stderr": b""}
    for event in client.run(run_id, RunRequest(language, code, timeout=timeout, **request), timeout + 10):
        if isinstance(event, Output):
            streams[event.stream] += event.data
        last = event
    client.acknowledge(run_id)
    return last, streams["stdout"].decode(errors="replace"), streams["stderr"].decode(errors="replace")


def printed(sandbox, code, **options):
    """What code prints, where it must end well."""
    result, stdout, stderr = run(sandbox, code, **options)
    assert result.outcome == "ok", (result, stdout, stderr)
    return stdout.strip()


def host_pid(sandbox):
    """The executor's pid on this host: whoever listens on its socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        descriptor = os.open(sandbox.socket, os.O_PATH)
        connection.connect(f"/proc/self/fd/{descriptor}")
        os.close(descriptor)
        return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def leftovers(kind, *words):
    """What there is on this host that carries one of these words (names, refs): nothing, if all was removed.

    The kernel takes a moment to bury a mount namespace, and with it the last user of a loop device.
    """
    end = time.monotonic() + LINGERS
    while (found := _leftovers(kind, *words)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def _leftovers(kind, *words):
    found = [f"folder {path}" for path in (kind.state / "sandboxes").glob("*") if path.name in words]
    found += [f"lock {path}" for path in (kind.state / "locks").glob("*")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if any(word in line for word in words)]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            text = backing.read_text()
        except OSError:
            continue
        found += [f"loop device {text}" for word in words if word in text]
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"cgroup {folder}/{name}" for name in names if any(word in name for word in words)]
    for process in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            groups = process.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [f"process {process.parent.name}" for word in words if word in groups]
    if kind.name == "docker":
        client = docker.from_env()
        found += [f"container {item.name}" for item in client.containers.list(all=True) if item.name in words]
        client.close()
    return found


def kill_and_wait(driver, sandbox):
    process = os.pidfd_open(host_pid(sandbox))
    signal.pidfd_send_signal(process, signal.SIGKILL)
    assert select.select([process], [], [], 10)[0]
    os.close(process)
    end = time.monotonic() + 10
    while driver.inspect(sandbox.name).state is SandboxState.RUNNING:
        assert time.monotonic() < end
