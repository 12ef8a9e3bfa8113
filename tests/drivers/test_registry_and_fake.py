"""Which driver a host gets; the fake keeps the contract's shape; drivers know no Django."""

import ast
import contextlib
import inspect
import threading
from pathlib import Path

import pytest

import runtime.drivers
from runtime.drivers import registry
from runtime.drivers.base import Driver
from runtime.drivers.bubblewrap import BubblewrapDriver
from runtime.drivers.docker import DockerDriver
from runtime.drivers.errors import (
    AttestationFailed,
    BootFailed,
    DriverError,
    EngineUnavailable,
    ImageUnavailable,
    NoCapacity,
    RuntimeUnsupported,
    SandboxNotFound,
)
from runtime.drivers.fake import FakeDriver
from runtime.drivers.types import SandboxSpec, SandboxState

VERBS = ("check", "create", "inspect", "remove", "list", "logs", "stats")
SPEC = SandboxSpec("sbx-1", "image")


@pytest.mark.parametrize("driver", [DockerDriver, BubblewrapDriver, FakeDriver])
@pytest.mark.parametrize("verb", VERBS)
def test_all_drivers_have_the_same_verbs(driver, verb):
    assert inspect.signature(getattr(driver, verb)) == inspect.signature(getattr(Driver, verb))


def test_load(tmp_path):
    assert registry.load("docker", instance="main", state_dir=tmp_path).name == "docker"
    assert registry.load("bubblewrap", instance="main", state_dir=tmp_path).name == "bubblewrap"
    with pytest.raises(RuntimeUnsupported):
        registry.load("kubernetes", instance="main", state_dir=tmp_path)


def test_detect_without_an_engine(tmp_path, monkeypatch):
    nowhere = f"unix://{tmp_path}/none.sock"
    with pytest.raises(EngineUnavailable):
        registry.detect("docker", docker_url=nowhere)
    monkeypatch.setattr(BubblewrapDriver, "check", lambda self: None)
    assert registry.detect("bubblewrap", docker_url=nowhere).runtime_type == "bubblewrap"
    choice = registry.detect("auto", docker_url=nowhere)
    assert choice.runtime_type == "bubblewrap" and "no Docker" in choice.reason


def test_detect_with_an_engine(monkeypatch):
    monkeypatch.setattr(DockerDriver, "check", lambda self: None)
    choice = registry.detect("auto", docker_url="unix:///some.sock")
    assert (choice.runtime_type, choice.url) == ("docker", "unix:///some.sock")


def test_bubblewrap_needs_root(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    driver = BubblewrapDriver("main", tmp_path)
    for verb in (driver.check, lambda: driver.create(SPEC)):
        with pytest.raises(RuntimeUnsupported, match="root"):
            verb()


def test_a_fake_life(tmp_path):
    served = []

    @contextlib.contextmanager
    def executor(path):
        served.append(path)
        yield
        served.remove(path)

    driver = FakeDriver(state_dir=tmp_path, executor=executor)
    made = driver.create(SPEC)
    assert driver.create(SPEC) == made == driver.inspect("sbx-1") and served == [made.socket]
    assert driver.list()[0].isolation == {} and driver.stats("sbx-1").pids and driver.logs("sbx-1")
    driver.kill("sbx-1", oom=True)
    assert served == [] and driver.inspect("sbx-1").state is SandboxState.EXITED and driver.inspect("sbx-1").oom_killed
    with pytest.raises(SandboxNotFound):
        driver.stats("sbx-1")
    again = driver.create(SPEC)
    assert again.ref != made.ref
    driver.lose("sbx-1")
    with pytest.raises(SandboxNotFound):
        driver.inspect("sbx-1")
    driver.leave_behind("sbx-9")
    assert [item.state for item in driver.list()] == [SandboxState.EXITED]
    driver.remove("sbx-9")
    driver.remove("sbx-9")
    assert driver.list() == [] and ("create", "sbx-1") in driver.calls


@pytest.mark.parametrize(
    ("knob", "error"),
    [
        ("engine_down", EngineUnavailable),
        ("image_missing", ImageUnavailable),
        ("no_capacity", NoCapacity),
        ("boot_fails", BootFailed),
        ("attestation_fails", AttestationFailed),
        ("creates_then_dies", EngineUnavailable),
    ],
)
def test_what_goes_wrong_when_creating(knob, error):
    driver = FakeDriver()
    setattr(driver.knobs, knob, True)
    with pytest.raises(error):
        driver.create(SPEC)
    driver.knobs.engine_down = False
    assert len(driver.list()) == (knob == "creates_then_dies")


def test_a_slow_create_and_a_removal_that_fails():
    driver = FakeDriver()
    driver.knobs.slow_create = threading.Event()
    thread = threading.Thread(target=driver.create, args=(SPEC,))
    thread.start()
    assert driver.list() == []
    driver.knobs.slow_create.set()
    thread.join(5)
    driver.knobs.remove_fails = True
    with pytest.raises(DriverError):
        driver.remove("sbx-1")
    assert len(driver.list()) == 1


def test_drivers_know_no_django_and_nothing_of_ours():
    folder = Path(runtime.drivers.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                assert top not in ("django", "rest_framework", "django_q", "pickle", "marshal", "shelve"), (path, name)
                assert top != "runtime" or name.startswith("runtime.drivers"), (path, name)
                assert not top.endswith("_app") and top not in ("executor", "sandbox_platform"), (path, name)
