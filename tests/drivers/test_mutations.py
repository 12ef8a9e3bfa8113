"""Each hardening field, taken away or turned to its worst, is noticed on a real engine: by attestation, before anything starts."""

import copy
import os
import secrets

import docker
import pytest

from runtime.drivers import policy
from runtime.drivers.docker_spec import HostFacts, container_body
from runtime.drivers.state import SandboxFolder
from runtime.drivers.types import SandboxSpec
from tests.drivers.conftest import BASE_IMAGE

pytestmark = pytest.mark.docker
# Where the engine's default is the safe value, taking the field away changes nothing: these are turned to their worst instead.
WORST = {
    "IpcMode": "host",
    "PidMode": "host",
    "UTSMode": "host",
    "UsernsMode": "host",
    "CgroupnsMode": "host",
    "NetworkMode": "host",
    "Privileged": True,
    "OomKillDisable": True,
    "AutoRemove": True,
    "RestartPolicy": {"Name": "always"},
    "MaskedPaths": [],
    "ReadonlyPaths": [],
    "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
    "DeviceCgroupRules": ["a *:* rwm"],
    "Sysctls": {"net.ipv4.ip_forward": "1"},
    "ExtraHosts": ["metadata:169.254.169.254"],
    "PublishAllPorts": True,
    "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
    "Binds": ["/:/host"],
    "CgroupParent": "/elsewhere",
    "CapAdd": ["SETUID", "SETGID", "KILL", "SYS_ADMIN", "SETPCAP"],
    "CapDrop": ["CHOWN"],
    "SecurityOpt": ["seccomp=unconfined"],
    "MemorySwap": -1,
    "ShmSize": 1 << 30,
    "PidsLimit": -1,
    "ReadonlyRootfs": False,
    "Tmpfs": {"/tmp": "rw,exec"},
}
# What says nothing of safety, or can't be turned: who the peers' group is, which runtime, an init of Docker's.
NO_WALL = {"Init", "GroupAdd", "Runtime", "Dns", "Links", "VolumesFrom", "DeviceRequests"}
GONE = ("CapAdd", "CapDrop", "SecurityOpt", "ReadonlyRootfs", "Tmpfs", "ShmSize", "Mounts", "Memory", "MemorySwap", "OomScoreAdj",
        "CpuPeriod", "CpuQuota", "CpuShares", "PidsLimit", "Ulimits", "LogConfig", "NetworkMode")  # fmt: skip
CONFIG = {"User": None, "StopSignal": None, "Healthcheck": None, "NetworkDisabled": None, "WorkingDir": "/tmp", "Tty": True,
          "OpenStdin": True, "Volumes": {"/data": {}}}  # fmt: skip


@pytest.fixture(scope="module")
def api():
    client = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=30)
    yield client
    client.close()


@pytest.fixture
def body(tmp_path):
    folder = SandboxFolder(tmp_path, "sbx-1")
    folder.make()
    spec = SandboxSpec(name=f"sbx-{secrets.token_hex(6)}", image=BASE_IMAGE)
    return copy.deepcopy(container_body(spec, folder, HostFacts("mutants", os.getegid(), True, False)))


def judged(api, body):
    """What is wrong with what the engine made of it. Nothing is started."""
    ref = api.create_container_from_config(body, name=f"sbx-mutant-{secrets.token_hex(6)}")["Id"]
    try:
        return policy.mismatches(api.inspect_container(ref))
    finally:
        api.remove_container(ref, force=True, v=True)


def test_the_body_itself_is_as_it_must_be(api, body):
    assert judged(api, body) == []


def test_every_field_is_tried(body):
    assert set(body["HostConfig"]) == set(WORST) | set(GONE) | NO_WALL
    # The profile and the capabilities depend on the runtime.
    assert set(WORST) | set(GONE) <= {*policy.HOST, "SecurityOpt", "CapAdd"}


@pytest.mark.parametrize("field", GONE)
def test_a_field_that_is_gone(api, body, field):
    del body["HostConfig"][field]
    if field == "Memory":  # without it the engine refuses a limit of memory with swap
        del body["HostConfig"]["MemorySwap"]
    assert any(f"HostConfig.{field}" in words for words in judged(api, body))


@pytest.mark.parametrize("field", WORST)
def test_a_field_at_its_worst(api, body, field):
    body["HostConfig"][field] = WORST[field]
    if field == "NetworkMode":
        del body["NetworkDisabled"]
    if field == "UTSMode":  # the engine refuses the two together
        del body["Hostname"]
    if field == "AutoRemove":
        body["HostConfig"]["RestartPolicy"] = {"Name": "no"}
    assert any(f"HostConfig.{field}" in words for words in judged(api, body))


@pytest.mark.parametrize("field", CONFIG)
def test_the_rest_of_the_body(api, body, field):
    if CONFIG[field] is None:
        del body[field]
    else:
        body[field] = CONFIG[field]
    assert any(f"Config.{field}" in words for words in judged(api, body))
