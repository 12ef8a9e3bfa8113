"""Admission: a node promises no more than its operator allows, however many ask at once."""

import shutil
import threading
from typing import Any

import pytest
from django.db import connections

from runtime.drivers.fake import FakeDriver
from runtime.models import Node
from runtime.services import disk, nodes
from sessions_app.models import Session
from tests.api.client import Api, error_of
from tests.factories import NodeFactory, TemplateImageFactory

BODY = {"template_id": "python-basic"}


@pytest.mark.parametrize(
    "limit",
    [
        {"max_sessions": 2},
        {"memory_bytes": 1024 * 2**20, "memory_overcommit": 1.0},
        {"cpu_millis": 1000, "cpu_overcommit": 2.0},
        {"disk_bytes": 5 * 2**29, "disk_overcommit": 1.0},
        {"disk_bytes": 2**30, "disk_overcommit": 2.0},
    ],
)
def test_what_does_not_fit_is_503_and_says_when_to_come_back(api: Api, limit: dict) -> None:
    Node.objects.update(**limit)
    assert api.post("/sessions", BODY).status_code == 201
    assert api.post("/sessions", BODY).status_code == 201
    error_of(api.post("/sessions", BODY), 503, "TooManyRequestsExection")
    assert Session.objects.count() == 2


@pytest.mark.parametrize(
    ("name", "amount", "most"),
    [("cpu", "2.5", "2"), ("memory", "1025Mi", "1024Mi"), ("disk", "50Gi", "19456Mi")],
)
def test_what_no_node_has_is_400_and_names_the_maximum(api: Api, name: str, amount: str, most: str) -> None:
    Node.objects.update(memory_bytes=2**30, disk_bytes=19 * 2**30, disk_overcommit=10.0)
    error = error_of(api.post("/sessions", {**BODY, "resources": {name: amount}}), 400, "InvalidParameter")
    assert f"resources.{name}" in error["error_detail"] and error["error_detail"].endswith(f"the maximum is {most}")
    assert not Session.objects.exists()


def test_below_the_reserve_of_the_disk_there_are_no_new_sessions(api: Api, settings: Any) -> None:
    settings.DISK_RESERVE = 2**60
    answer = api.post("/sessions", BODY)
    assert "disk" in error_of(answer, 503, "TooManyRequestsExection")["error_detail"]
    assert int(answer.headers["Retry-After"]) > 0 and not Session.objects.exists()
    settings.DISK_RESERVE = 0
    assert api.post("/sessions", BODY).status_code == 201


def test_a_probe_measures_the_disk(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    Node.objects.update(disk_bytes=0)
    monkeypatch.setattr(nodes.registry, "load", lambda kind, **options: FakeDriver())
    monkeypatch.setattr(nodes, "_drivers", {})
    nodes.probe(Node.objects.get())
    assert Node.objects.get().disk_bytes == shutil.disk_usage(disk.folder()).total > 0


def test_what_is_given_back_can_be_promised_again(api: Api) -> None:
    from django.utils import timezone

    Node.objects.update(max_sessions=1)
    api.post("/sessions", BODY)
    error_of(api.post("/sessions", BODY), 503, "TooManyRequestsExection")
    Session.objects.update(released_at=timezone.now())
    assert api.post("/sessions", BODY).status_code == 201


def test_the_emptier_node_is_taken(api: Api) -> None:
    NodeFactory(name="node-02")
    nodes = {Session.objects.get(pk=api.post("/sessions", BODY).json()["session_id"]).node_id for _ in range(2)}
    assert nodes == {"node-01", "node-02"}


def test_a_node_that_does_not_answer_takes_none_while_another_does(api: Api) -> None:
    NodeFactory(name="node-02")
    Node.objects.filter(name="node-01").update(ready=False)
    for _ in range(3):
        assert Session.objects.get(pk=api.post("/sessions", BODY).json()["session_id"]).node_id == "node-02"


def test_of_fifty_racing_for_one_place_one_gets_it(transactional_db: None) -> None:
    NodeFactory(max_sessions=1)
    TemplateImageFactory()
    api = Api()
    statuses: list[int] = []
    start = threading.Barrier(50)

    def create() -> None:
        client = Api(api.project)
        start.wait(60)
        statuses.append(client.post("/sessions", BODY).status_code)
        connections.close_all()

    threads = [threading.Thread(target=create) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [201] + [503] * 49
