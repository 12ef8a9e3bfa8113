"""The whole body of a create, and that no field of it can get lost on the way."""

import copy
from pathlib import Path

import pytest

from runtime.drivers import attest, seccomp
from runtime.drivers.docker_spec import HostFacts, container_body
from runtime.drivers.state import SandboxFolder
from runtime.drivers.types import MIB, Resources, SandboxSpec

FOLDER = SandboxFolder(Path("/state"), "sbx-1")
FACTS = HostFacts(instance="main", gid=1500, mounts_workspace=True, apparmor=True)
SPEC = SandboxSpec(
    name="sbx-1",
    image="sha256:abc",
    resources=Resources(cpu=1.5, memory=512 * MIB, disk=1024 * MIB, inodes=1000, pids=64),
    slots=2,
    preload=("numpy", "pandas"),
    labels={"template": "t", "sbx.instance": "forged"},
)
BODY = {
    "Image": "sha256:abc",
    "User": "0:0",
    "Entrypoint": [
        "python3", "-I", "/opt/sandbox/executor", "--socket", "/run/sbx/executor.sock",
        "--workspace", "/workspace", "--slots", "2", "--preload", "numpy,pandas",
    ],
    "Cmd": [],
    "WorkingDir": "/",
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"],
    "Hostname": "sandbox",
    "Domainname": "",
    "NetworkDisabled": True,
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StopSignal": "SIGKILL",
    "StopTimeout": 0,
    "Healthcheck": {"Test": ["NONE"]},
    "Volumes": {},
    "ExposedPorts": {},
    "Labels": {"template": "t", "sbx.managed": "1", "sbx.instance": "main", "sbx.name": "sbx-1"},
    "HostConfig": {
        "NetworkMode": "none",
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "CgroupnsMode": "private",
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": ["SETUID", "SETGID", "KILL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp.profile_text()}", "apparmor=docker-default"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=67108864,nr_inodes=16384,mode=1777"},
        "ShmSize": 16777216,
        "Mounts": [
            {
                "Type": "bind", "Source": "/state/sandboxes/sbx-1/sock", "Target": "/run/sbx", "ReadOnly": False,
                "BindOptions": {"Propagation": "rprivate"},
            },
            {
                "Type": "bind", "Source": "/state/sandboxes/sbx-1/ws", "Target": "/workspace", "ReadOnly": False,
                "BindOptions": {"Propagation": "rprivate"},
            },
        ],
        "Memory": 536870912,
        "MemorySwap": 536870912,
        "OomKillDisable": False,
        "OomScoreAdj": 500,
        "CpuPeriod": 100000,
        "CpuQuota": 150000,
        "CpuShares": 256,
        "PidsLimit": 64,
        "Ulimits": [
            {"Name": "nofile", "Soft": 1024, "Hard": 1024},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "memlock", "Soft": 0, "Hard": 0},
            {"Name": "msgqueue", "Soft": 0, "Hard": 0},
        ],
        "Init": False,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "MaskedPaths": None,
        "ReadonlyPaths": None,
        "Devices": [],
        "DeviceCgroupRules": [],
        "DeviceRequests": [],
        "GroupAdd": ["1500"],
        "Sysctls": {},
        "ExtraHosts": [],
        "Dns": [],
        "Links": [],
        "PublishAllPorts": False,
        "PortBindings": {},
        "VolumesFrom": [],
        "Binds": [],
        "CgroupParent": "",
        "Runtime": "runc",
    },
}  # fmt: skip


def test_the_whole_body():
    assert container_body(SPEC, FOLDER, FACTS) == BODY


def test_what_changes_with_the_host():
    facts = HostFacts(instance="main", gid=0, mounts_workspace=False, apparmor=False)
    expected = copy.deepcopy(BODY)
    host = expected["HostConfig"]
    host["Tmpfs"]["/workspace"] = "rw,exec,nosuid,nodev,size=268435456,nr_inodes=1000,uid=20000,gid=20000,mode=2775"
    del host["Mounts"][1]
    del host["SecurityOpt"][2]
    host["GroupAdd"] = ["0"]
    assert container_body(SPEC, FOLDER, facts) == expected


def test_what_changes_with_the_oci_runtime():
    spec = SandboxSpec(name="sbx-1", image="sha256:abc", oci_runtime="runsc")
    body = container_body(spec, FOLDER, FACTS)
    assert body["HostConfig"]["Runtime"] == "runsc" and "--preload" not in body["Entrypoint"]
    assert body["Entrypoint"][-4:] == ["--allow-any-peer", "--address-space", str(384 * MIB), "--apart"]
    # What the executor needs to make a namespace for runs, and gives up again: it counts in that kernel alone.
    assert body["HostConfig"]["CapAdd"] == ["SETUID", "SETGID", "KILL", "SYS_ADMIN", "SETPCAP"]
    # Processes are counted by its own kernel, which takes several tasks of the host's for each.
    assert body["HostConfig"]["Ulimits"][-1] == {"Name": "nproc", "Soft": 41, "Hard": 41}
    assert body["HostConfig"]["PidsLimit"] == 512 + 24 * 41
    assert f"seccomp={seccomp.profile_text(own_kernel=True)}" in body["HostConfig"]["SecurityOpt"]


@pytest.mark.parametrize("oci_runtime", ["runc", "crun", "kata-runtime", "runsc-debug", "RUNSC", ""])
def test_on_the_hosts_kernel_there_is_no_capability_more(oci_runtime):
    body = container_body(SandboxSpec(name="sbx-1", image="sha256:abc", oci_runtime=oci_runtime), FOLDER, FACTS)
    assert body["HostConfig"]["CapAdd"] == ["SETUID", "SETGID", "KILL"] and "--apart" not in body["Entrypoint"]


def test_a_small_sandbox_keeps_memory_for_its_user():
    spec = SandboxSpec(name="sbx-1", image="i", resources=Resources(cpu=0.001, memory=64 * MIB))
    host = container_body(spec, FOLDER, FACTS)["HostConfig"]
    assert f"size={16 * MIB}," in host["Tmpfs"]["/tmp"] and host["CpuQuota"] == 1000


# What the engine says of it


def answer():
    """As an engine gives it back: nulls written out, its own lists of paths, the image's environment."""
    config = {key: copy.deepcopy(value) for key, value in BODY.items() if key not in ("HostConfig", "NetworkDisabled")}
    config["Env"] = [*config["Env"], "PYTHON_VERSION=3.12"]
    config["Cmd"] = None
    host = copy.deepcopy(BODY["HostConfig"])
    host |= {
        "CapAdd": ["CAP_KILL", "CAP_SETGID", "CAP_SETUID"],
        "OomKillDisable": None,
        "Devices": None,
        "Links": None,
        "Binds": None,
        "MaskedPaths": ["/proc/asound", *attest.MASKED],
        "ReadonlyPaths": sorted(attest.READ_ONLY),
    }
    return {"Config": config, "HostConfig": host}


def test_an_engine_may_word_it_differently():
    assert attest.engine_mismatches(BODY, answer()) == []


OTHER = {str: "other", bool: True, int: 7, list: ["other"], dict: {"other": "1"}, type(None): "other"}


@pytest.mark.parametrize("field", sorted(BODY["HostConfig"]))
def test_every_field_of_the_host_config_is_compared(field):
    inspected = answer()
    value = BODY["HostConfig"][field]
    inspected["HostConfig"][field] = not value if isinstance(value, bool) else OTHER[type(value)]
    if field in ("MaskedPaths", "ReadonlyPaths"):
        inspected["HostConfig"][field] = []
    assert attest.engine_mismatches(BODY, inspected) == [f"HostConfig.{field}"]


@pytest.mark.parametrize("field", [name for name, value in BODY["HostConfig"].items() if value])
def test_a_field_that_the_engine_dropped_is_noticed(field):
    inspected = answer()
    del inspected["HostConfig"][field]
    assert attest.engine_mismatches(BODY, inspected) == [f"HostConfig.{field}"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("User", ""), ("Entrypoint", ["sh"]), ("Cmd", ["x"]), ("Tty", True), ("Env", ["LANG=C.UTF-8"]), ("Labels", {})],
)
def test_the_config_is_compared(field, value):
    inspected = answer()
    inspected["Config"][field] = value
    assert attest.engine_mismatches(BODY, inspected) == [f"Config.{field}"]
