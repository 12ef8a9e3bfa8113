"""The contract of `runtime.drivers.base`, kept by every driver, on the real thing: from the making of a sandbox to its end."""

import datetime as dt
import multiprocessing
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.drivers import workspace
from runtime.drivers.errors import (
    ExecutorProtocolError,
    SandboxNotFound,
)
from runtime.drivers.executor_client import ExecutorClient
from runtime.drivers.types import SandboxState
from tests.drivers.conftest import UNKNOWN, host_pid, kill_and_wait, leftovers, printed


def test_from_create_to_remove(kind):
    driver = kind.driver()
    driver.check()
    spec = kind.spec(labels={"template": "python-basic"}, slots=2)
    made = driver.create(spec)
    assert made.state is SandboxState.RUNNING and made.name == spec.name
    assert len(made.ref) >= 12 and int(made.ref, 16) >= 0
    assert made.labels["template"] == "python-basic"
    assert made.labels["sbx.instance"] == kind.instance and made.labels["sbx.name"] == spec.name
    assert made.isolation["driver"] == kind.name and made.isolation["seccomp"] == "filter"
    assert made.isolation["capabilities"] == ["SETUID", "SETGID", "KILL"]
    assert made.limits_enforced == {
        "cpu": "cgroup",
        "memory": "cgroup",
        "pids": "cgroup",
        "disk": "ext4",
        "inodes": "ext4",
    }
    members = (made.ref, made.name)
    assert ExecutorClient(made.socket, members=members).health().slots == 2
    with pytest.raises(ExecutorProtocolError):
        ExecutorClient(made.socket, members=("sbx-other",)).health()
    assert printed(made, "print('hello')") == "hello"
    assert driver.inspect(spec.name) == made
    (listed,) = driver.list()
    assert (listed.ref, listed.name, listed.state) == (made.ref, made.name, SandboxState.RUNNING)
    assert listed.labels == made.labels and listed.isolation == {} and listed.limits_enforced == {}
    assert abs(listed.created_at.timestamp() - time.time()) < 60
    stats = driver.stats(spec.name)
    assert stats.cpu_seconds > 0 and stats.pids >= 1 and stats.oom_kills == 0
    assert 0 < stats.memory_bytes <= spec.resources.memory and stats.memory_peak_bytes > 0
    begun = time.monotonic()
    driver.remove(spec.name)
    assert time.monotonic() - begun < 5
    assert driver.list() == [] and leftovers(kind, spec.name, made.ref) == []


# As the quickstart shows it: `2026-01-06T10:00:00Z [INFO] sandbox-executor starting`.
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[(INFO|WARNING|ERROR)\] \w+( \w+=\S+)*")


def test_the_log_has_a_time_on_each_line(kind):
    driver = kind.driver()
    made = driver.create(kind.spec())
    for _ in range(3):
        printed(made, "pass")
    lines = driver.logs(made.name).splitlines()
    assert lines and [line for line in lines if not LOG_LINE.fullmatch(line)] == []
    assert [line.split()[2] for line in lines][:2] == ["listening", "ready"]
    assert driver.logs(made.name, tail=2).splitlines() == driver.logs(made.name).splitlines()[-2:]
    later = made.created_at.replace(year=made.created_at.year + 1)
    assert driver.logs(made.name, since=later) == ""
    assert driver.logs(made.name, since=dt.datetime.min.replace(tzinfo=dt.UTC)) == driver.logs(made.name)
    assert driver.logs(made.name, since=dt.datetime.max.replace(tzinfo=dt.UTC)) == ""


def test_what_is_unknown_is_not_found_and_removing_it_is_no_error(kind):
    driver = kind.driver()
    for verb in (driver.inspect, driver.logs, driver.stats):
        with pytest.raises(SandboxNotFound):
            verb(UNKNOWN)
    driver.remove(UNKNOWN)
    spec = kind.spec()
    driver.create(spec)
    driver.remove(spec.name)
    driver.remove(spec.name)
    with pytest.raises(SandboxNotFound):
        driver.inspect(spec.name)
    assert leftovers(kind, UNKNOWN, spec.name) == []


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "-x", "A", "x" * 64, "a\0"])
def test_a_name_that_is_none_is_refused(kind, name):
    with pytest.raises(ValueError, match="not a sandbox name"):
        kind.driver().create(kind.spec(name=name))


def test_the_same_name_is_the_same_sandbox(kind):
    driver, spec = kind.driver(), kind.spec()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: kind.driver().create(spec), range(4)))
    assert len({sandbox.ref for sandbox in made}) == 1 and len(driver.list()) == 1
    assert driver.create(spec) == made[0]


def test_two_removals_at_once(kind):
    driver, spec = kind.driver(), kind.spec()
    driver.create(spec)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: kind.driver().remove(spec.name), range(4)))
    assert leftovers(kind, spec.name) == []


def test_a_half_made_sandbox_is_listed_removed_or_made_anew(kind):
    driver, spec = kind.driver(), kind.spec()
    folder = driver._state.folder(spec.name)
    # As a crash leaves it: the folder and the mount, nothing that runs.
    driver._state.begin(folder)
    workspace.make(folder.image, folder.workspace, spec.resources)
    (listed,) = driver.list()
    assert listed.name == spec.name and listed.state is SandboxState.EXITED
    assert driver.inspect(spec.name).state is SandboxState.EXITED
    driver.remove(spec.name)
    assert leftovers(kind, spec.name) == []
    driver._state.begin(folder)
    workspace.make(folder.image, folder.workspace, spec.resources)
    assert printed(driver.create(spec), "print(1)") == "1"


def test_a_folder_without_a_record_is_a_remainder(kind):
    driver = kind.driver()
    (kind.state / "sandboxes" / "sbx-dead" / "sock").mkdir(parents=True)
    assert [(item.name, item.state) for item in driver.list()] == [("sbx-dead", SandboxState.EXITED)]
    driver.remove("sbx-dead")
    assert driver.list() == []


def test_being_made_is_not_a_remainder(kind):
    driver, spec = kind.driver(), kind.spec()
    with driver._state.lock(spec.name, 1):
        driver._state.begin(driver._state.folder(spec.name))
        assert [item.state for item in driver.list()] == [SandboxState.CREATED]
    assert [item.state for item in driver.list()] == [SandboxState.EXITED]


def test_killed_from_outside(kind):
    driver = kind.driver()
    made = driver.create(kind.spec())
    kill_and_wait(driver, made)
    dead = driver.inspect(made.name)
    assert (dead.state, dead.exit_code, dead.oom_killed) == (SandboxState.EXITED, 137, False)
    assert [item.state for item in driver.list()] == [SandboxState.EXITED]
    assert "listening" in driver.logs(made.name)
    with pytest.raises(SandboxNotFound):
        driver.stats(made.name)
    again = driver.create(kind.spec(name=made.name))
    assert again.ref != made.ref and printed(again, "print(1)") == "1"


def test_other_instances_are_invisible(kind, tmp_path):
    made = kind.driver().create(kind.spec())
    for other in (kind.driver(instance="other"), kind.driver(instance="other", state=tmp_path / "other")):
        assert other.list() == []
        with pytest.raises(SandboxNotFound):
            other.inspect(made.name)
        other.remove(made.name)
    assert kind.driver().inspect(made.name).state is SandboxState.RUNNING
    assert printed(made, "print(1)") == "1"


def test_a_sandbox_outlives_its_maker(kind):
    spec = kind.spec()
    maker = multiprocessing.get_context("fork").Process(target=lambda: kind.driver().create(spec))
    maker.start()
    maker.join(60)
    assert maker.exitcode == 0
    made = kind.driver().inspect(spec.name)
    assert made.state is SandboxState.RUNNING and printed(made, "print(1)") == "1"
    with open(f"/proc/{host_pid(made)}/stat") as stat:
        assert int(stat.read().rpartition(")")[2].split()[1]) != os.getpid()
