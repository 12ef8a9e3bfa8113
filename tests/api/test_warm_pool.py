"""Sessions from the warm pool: at once, one container each, and never more than the pool promises."""

import pytest

from runtime.drivers.errors import NoCapacity
from runtime.models import Container, ContainerStatus
from runtime.services.nodes import driver_of
from sandbox_platform import metrics
from templates_app import resources
from templates_app.models import Template
from tests.api.client import Api, eventually

pytestmark = pytest.mark.bubblewrap


def warm(count: int) -> list[str]:
    names = list(Container.objects.filter(status=ContainerStatus.WARM).values_list("name", flat=True))
    return names if len(names) == count else []


@pytest.fixture
def pool(live: Api) -> Api:
    """A client beside a pool of two that is full."""
    Template.objects.update(warm_pool_size=2)
    eventually(lambda: warm(2))
    return live


def test_a_session_takes_a_warm_container_and_the_pool_fills_up_again(pool: Api) -> None:
    stock = warm(2)
    answer = pool.post("/sessions", {"template_id": "python-basic"})
    assert answer.json()["status"] == "creating"
    session = pool.get(f"/sessions/{answer.json()['session_id']}").json()
    assert session["status"] == "running"
    taken = Container.objects.get(session=session["session_id"])
    assert taken.name in stock
    assert pool.run(session["session_id"], "def handler(event):\n    return 42")["return_value"] == 42
    assert taken.name not in eventually(lambda: warm(2))


LIMITS = """
import glob
for path in ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"):
    for found in glob.glob(path):
        print(open(found).read())
"""


@pytest.mark.parametrize("memory", ["256Mi", "1Gi"])
def test_other_limits_are_given_to_a_warm_container(pool: Api, memory: str) -> None:
    stock = warm(2)
    session_id = pool.session(resources={"cpu": "0.5", "memory": memory})
    taken = Container.objects.get(session=session_id)
    assert taken.name in stock and (taken.cpu, taken.memory) == ("0.5", memory)
    assert int(pool.run(session_id, LIMITS)["stdout"]) == resources.size(memory)
    spin = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    assert float(pool.run(session_id, spin)["stdout"]) < 0.75
    assert 'sandbox_pool_claims_total{outcome="fit",template="python-basic"}' in metrics.exposition().decode()


def test_another_disk_starts_cold(pool: Api) -> None:
    stock = warm(2)
    session_id = pool.session(resources={"disk": "2Gi"})
    assert Container.objects.get(session=session_id).name not in stock
    assert warm(2) == stock


def test_a_container_that_can_not_be_fitted_is_given_back(pool: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, asked: object) -> None:
        raise NoCapacity("it uses more already")

    stock = warm(2)
    monkeypatch.setattr(driver_of(Container.objects.get(pk=stock[0]).node), "update", refuse)
    session_id = pool.session(resources={"memory": "256Mi"})
    used = Container.objects.get(session=session_id)
    assert used.name not in stock and used.memory == "256Mi"
    eventually(lambda: Container.objects.filter(pk__in=stock, status=ContainerStatus.REMOVED).count() == 1)


def test_a_dead_container_is_not_handed_out(pool: Api) -> None:
    for container in Container.objects.filter(status=ContainerStatus.WARM):
        driver_of(container.node).remove(container.name)
    session_id = pool.session()
    assert pool.run(session_id, "def handler(event):\n    return 1")["return_value"] == 1


def test_a_smaller_pool_gives_back_what_is_too_many(pool: Api) -> None:
    Template.objects.update(warm_pool_size=0)
    eventually(lambda: not Container.objects.filter(status=ContainerStatus.WARM).exists())
    eventually(lambda: not Container.objects.exclude(status=ContainerStatus.REMOVED).exists())


def test_the_idle_pool_is_seen_by_those_who_may(pool: Api) -> None:
    assert pool.get("/containers?status=warm").json()["total"] == 0
    operator = Api(scopes=["containers:read_all"])
    body = operator.get("/containers?status=warm").json()
    assert body["total"] == 2
    assert all(row["session_id"] is None for row in body["containers"])
