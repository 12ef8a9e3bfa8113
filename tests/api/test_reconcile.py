"""Rows, engine and disk are made to agree, from any state; what is somebody else's is left alone."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from django.conf import settings
from django.db.models.functions import Now

from runtime import tasks
from runtime.drivers.docker import DockerDriver
from runtime.drivers.errors import DriverError
from runtime.drivers.fake import FakeDriver
from runtime.drivers.state import StateFolder
from runtime.drivers.types import SandboxSpec
from runtime.models import Container, ContainerStatus, Node
from runtime.services import containers, nodes, pool, reconciler
from runtime.services.exclusive import only_one
from sandbox_platform.queue import Queue, depth
from sessions_app.models import Session, SessionStatus
from sessions_app.services import provision
from templates_app.models import ImageStatus
from tests.api.client import Api
from tests.factories import ContainerFactory, NodeFactory, SessionFactory, TemplateImageFactory

BASE = "sandbox/base:bookworm"


@pytest.fixture
def node(db: None) -> Node:
    return NodeFactory()


@pytest.fixture
def engine(node: Node, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """Where all sandboxes of the node are."""
    fake = FakeDriver()
    monkeypatch.setattr(nodes.registry, "load", lambda kind, **options: fake)
    monkeypatch.setattr(nodes, "_drivers", {})
    return fake


def row(engine: FakeDriver, node: Node, status: str = ContainerStatus.RUNNING, **fields: object) -> Container:
    """A container that the engine has, too."""
    container = ContainerFactory(node=node, status=status, **fields)
    engine.create(SandboxSpec(container.name, "image"))
    return container


def test_what_nobody_owns_is_removed_and_one_that_stays_keeps_no_other(
    engine: FakeDriver, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = row(engine, node)
    for name in ("sbx-a", "sbx-b", "sbx-c"):
        engine.leave_behind(name)
    remove = engine.remove

    def stubborn(name: str) -> None:
        if name == "sbx-a":
            raise DriverError("it does not go")
        remove(name)

    monkeypatch.setattr(engine, "remove", stubborn)
    reconciler.reconcile(node)
    assert {sandbox.name for sandbox in engine.list()} == {kept.name, "sbx-a"}
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("how", "reason"), [("kill", "container_lost"), ("oom", "oom_killed"), ("lose", "container_lost")]
)
def test_a_dead_sandbox_ends_its_session(engine: FakeDriver, node: Node, how: str, reason: str) -> None:
    session = SessionFactory(status=SessionStatus.RUNNING, container=row(engine, node))
    if how == "lose":
        engine.lose(session.container.name)
    else:
        engine.kill(session.container.name, oom=how == "oom")
    reconciler.reconcile(node)
    session.refresh_from_db()
    assert (session.status, session.status_reason) == ("failed", reason)


@pytest.mark.parametrize("status", ["exited", "lost", "stopping", "removed"])
def test_a_session_whose_container_ended_unheard_ends(db: None, status: str) -> None:
    session = SessionFactory(status=SessionStatus.RUNNING, container=ContainerFactory(status=status))
    well = SessionFactory(status=SessionStatus.RUNNING, container=ContainerFactory())
    provision.end_without_sandbox()
    session.refresh_from_db()
    well.refresh_from_db()
    assert (session.status, session.status_reason, well.status) == ("failed", "container_lost", "running")


def test_a_container_that_lost_its_session_goes(engine: FakeDriver, node: Node) -> None:
    container = row(engine, node)
    used = SessionFactory(status=SessionStatus.RUNNING, container=row(engine, node)).container
    pool.balance(node)
    container.refresh_from_db()
    assert container.status == ContainerStatus.REMOVED
    assert [sandbox.name for sandbox in engine.list()] == [used.name]


def test_one_pass_at_a_time(engine: FakeDriver, node: Node) -> None:
    with only_one("reconcile") as mine, only_one("reconcile") as second:
        assert mine and not second
        tasks.reconcile()
        assert engine.calls == []
    tasks.reconcile()
    assert ("list", "") in engine.calls


def test_a_node_that_is_switched_off_is_looked_after_and_gets_no_stock(engine: FakeDriver, node: Node) -> None:
    template = TemplateImageFactory().template
    template.warm_pool_size = 1
    template.save()
    lost = SessionFactory(status=SessionStatus.RUNNING, container=row(engine, node))
    engine.lose(lost.container.name)
    engine.leave_behind("sbx-a")
    Node.objects.update(enabled=False, ready=False)
    tasks.reconcile()
    assert Session.objects.get().status == "failed" and engine.list() == []
    assert Node.objects.get().ready and depth(Queue.LIFECYCLE) == 1  # of the session's end

    Node.objects.update(enabled=True)
    tasks.reconcile()
    assert depth(Queue.LIFECYCLE) == 2


def test_a_fault_with_one_node_does_not_keep_the_others(
    engine: FakeDriver, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    NodeFactory(name="node-02")
    probe = nodes.probe

    def broken(asked: Node) -> bool:
        if asked.name == "node-01":
            raise TypeError("a bug")
        return probe(asked)

    monkeypatch.setattr(nodes, "probe", broken)
    tasks.reconcile()
    assert ("list", "") in engine.calls


@pytest.mark.parametrize(("answers", "after"), [([False, False, True], "running"), ([False] * 9, "lost")])
def test_one_that_is_slow_to_answer_while_its_engine_is_gone_is_not_lost(
    node: Node, monkeypatch: pytest.MonkeyPatch, answers: list[bool], after: str
) -> None:
    container = ContainerFactory(node=node)
    monkeypatch.setattr(containers, "answers", lambda container: answers.pop(0))
    reconciler.lose_silent(node)
    container.refresh_from_db()
    assert container.status == after


def test_a_node_that_failed_a_probe_is_not_asked_for_sandboxes(engine: FakeDriver, node: Node) -> None:
    TemplateImageFactory()
    Node.objects.update(failed_probes=1)
    session = SessionFactory(node=node)
    provision.provision(session.pk)
    session.refresh_from_db()
    assert engine.calls == [] and session.status == "creating" and "node" in session.status_detail


def test_a_lost_image_is_made_anew(engine: FakeDriver, node: Node) -> None:
    image = TemplateImageFactory()
    engine.knobs.image_missing = True
    session = SessionFactory(node=node, template=image.template)
    provision.provision(session.pk)
    session.refresh_from_db()
    image.refresh_from_db()
    assert (session.status, session.status_reason) == ("failed", "image_unavailable")
    assert (image.status, image.ref) == (ImageStatus.PENDING, "")


def test_a_lock_file_that_a_crash_left_goes(tmp_path: Path) -> None:
    state = StateFolder(tmp_path, "docker/main")
    state.begin(state.folder("sbx-alive"))
    with state.lock("sbx-held", 1):
        for name in ("sbx-alive", "sbx-dead"):
            (tmp_path / "locks" / name).touch()
        state.sweep_locks()
        assert {path.name for path in (tmp_path / "locks").iterdir()} == {"sbx-alive", "sbx-held"}
    assert state.owners() == {"docker/main"}


@pytest.mark.bubblewrap
def test_what_a_former_runtime_left_goes(live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine of the node was changed after a crash: sandboxes of the one before are still ours."""
    session_id = live.session()
    container = Container.objects.get(session=session_id)
    Session.objects.update(status=SessionStatus.FAILED, ended_at=Now())
    Container.objects.update(status=ContainerStatus.REMOVED)
    node = Node.objects.get()
    assert nodes.kinds_here(node) == ["bubblewrap"]
    node.runtime_type = "docker"
    assert nodes.kinds_here(node) == ["docker", "bubblewrap"]
    monkeypatch.setitem(nodes._drivers, (os.getpid(), node.name, "docker", node.url), FakeDriver())
    reconciler.reconcile(node)
    assert not (Path(settings.STATE_DIR) / "sandboxes" / container.name).exists()


@pytest.fixture
def strangers() -> Iterator[dict[str, str]]:
    """Containers of somebody else on the same engine, by what is similar about them."""
    client, made = docker.from_env(), {}
    ours = {"sbx.managed": "1", "sbx.instance": "mine", "sbx.name": "sbx-0123456789abcdef"}
    labels = {
        "another instance": {**ours, "sbx.instance": "yours"},
        "an instance that begins like ours": {**ours, "sbx.instance": "mine2"},
        "a copy of a sandbox's labels": ours,
        "no name": {"sbx.managed": "1", "sbx.instance": "mine"},
        "a strange name": {**ours, "sbx.name": "../../etc"},
        "no labels": {},
    }
    for words, own in labels.items():
        container = client.containers.create(
            BASE, ["sleep", "60"], name=f"sbx-{secrets.token_hex(8)}", labels=own, network_mode="none"
        )
        made[words] = container.id
    yield made
    for ref in made.values():
        client.containers.get(ref).remove(force=True)
    client.close()


@pytest.mark.docker
def test_containers_of_somebody_else_survive(strangers: dict[str, str], tmp_path: Path) -> None:
    driver = DockerDriver("mine", tmp_path, os.environ.get("DOCKER_HOST"))
    client = docker.from_env()
    assert driver.list() == []
    for ref in strangers.values():
        name = client.containers.get(ref).name
        driver.remove(name)
        with pytest.raises(DriverError):
            driver.inspect(name)
    assert {container.id for container in client.containers.list(all=True)} >= set(strangers.values())
    client.close()
