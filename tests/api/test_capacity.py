"""Admission: a node promises no more than its operator allows, however many ask at once."""

import threading

import pytest
from django.db import connections

from runtime.models import Node
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
    ],
)
def test_what_does_not_fit_is_503_and_says_when_to_come_back(api: Api, limit: dict) -> None:
    Node.objects.update(**limit)
    assert api.post("/sessions", BODY).status_code == 201
    assert api.post("/sessions", BODY).status_code == 201
    error_of(api.post("/sessions", BODY), 503, "TooManyRequestsExection")
    assert Session.objects.count() == 2


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
