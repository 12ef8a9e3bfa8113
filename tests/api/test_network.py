"""The network of templates and sessions: none unless a template has a list, and a session never has more than that."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.models import Container, ContainerStatus
from runtime.services import outlets, pool
from sandbox_platform import metrics
from sandbox_platform.models import Process
from sessions_app.models import Session
from templates_app import exchange
from templates_app.models import Template
from tests.api.client import Api, error_of, eventually

HOSTS = ["pypi.org", "*.example.com", "api.example.net:8443"]


@pytest.fixture
def listed(api: Api) -> Api:
    """A client; python-basic has a list."""
    Template.objects.filter(pk="python-basic").update(network="allowlist", allowed_hosts=HOSTS)
    return api


@pytest.fixture
def proxy(db: None) -> Process:
    """The gateway's heartbeat."""
    return Process.objects.create(kind="egress", host="here", pid=1)


def create(api: Api, **body: Any) -> Any:
    return api.post("/sessions", {"template_id": "python-basic", **body})


class TestTemplates:
    new = {"id": "net", "name": "Net", "network": "allowlist", "allowed_hosts": ["PyPI.org.", "*.example.com"]}

    @pytest.fixture
    def curator(self, api: Api) -> Api:
        return Api(scopes=["templates:write"])

    def test_without_a_word_there_is_none(self, curator: Api) -> None:
        made = curator.post("/templates", {"id": "plain", "name": "Plain"}).json()
        assert (made["network"], made["allowed_hosts"]) == ("none", [])

    def test_a_list_is_kept_in_one_spelling(self, curator: Api) -> None:
        assert curator.post("/templates", self.new).status_code == 201
        shown = curator.get("/templates/net").json()
        assert (shown["network"], shown["allowed_hosts"]) == ("allowlist", ["pypi.org", "*.example.com"])

    @pytest.mark.parametrize(
        "hosts",
        [
            [], ["10.0.0.1"], ["https://pypi.org"], ["*.org"], ["localhost"], ["pypi.org:0"], ["a.example.com\u0000"], [7], "pypi.org",
            [f"h{n}.example.com" for n in range(65)], ["x" * 301],
        ],
    )  # fmt: skip
    def test_what_is_no_list_of_hosts_is_400(self, curator: Api, hosts: Any) -> None:
        body = error_of(curator.post("/templates", {**self.new, "allowed_hosts": hosts}), 400, "InvalidParameter")
        assert "allowed_hosts" in body["error_detail"]

    def test_an_allowlist_without_hosts_is_400_and_parts_go_together(self, curator: Api) -> None:
        error_of(curator.post("/templates", {"id": "x", "name": "X", "network": "allowlist"}), 400, "InvalidParameter")
        curator.post("/templates", self.new)
        error_of(curator.patch("/templates/net", {"allowed_hosts": []}), 400, "InvalidParameter")
        assert curator.patch("/templates/net", {"network": "none"}).json()["network"] == "none"
        assert curator.patch("/templates/net", {"network": "allowlist"}).json()["allowed_hosts"] == [
            "pypi.org",
            "*.example.com",
        ]
        assert curator.put("/templates/net", {"name": "Net"}).json()["network"] == "none"

    def test_it_goes_out_as_yaml_and_in_again(self, curator: Api) -> None:
        curator.post("/templates", self.new)
        text = exchange.dump([Template.objects.get(pk="net")])
        Template.objects.filter(pk="net").update(network="none", allowed_hosts=[])
        assert exchange.load(text)["changed"] == ["net"]
        assert Template.objects.get(pk="net").hosts == ["pypi.org", "*.example.com"]
        with pytest.raises(exchange.Unusable, match="addresses are not allowed"):
            exchange.load(text.replace("pypi.org", "10.0.0.1"))


class TestSessions:
    def test_there_is_none_by_default(self, api: Api) -> None:
        made = create(api).json()
        assert (made["network"], made["allowed_hosts"]) == ("none", [])

    def test_it_has_the_list_of_its_template(self, listed: Api, proxy: Process) -> None:
        made = create(listed).json()
        assert (made["network"], made["allowed_hosts"]) == ("allowlist", HOSTS)
        Template.objects.update(allowed_hosts=["other.example.com"])
        assert listed.get(f"/sessions/{made['session_id']}").json()["allowed_hosts"] == HOSTS, (
            "as it was at its creation"
        )

    @pytest.mark.parametrize(
        ("asked", "hosts"),
        [
            ({"network": "allowlist"}, HOSTS),
            ({"network": "none"}, []),
            ({"allowed_hosts": ["PyPI.org"]}, ["pypi.org"]),
            ({"allowed_hosts": ["a.example.com", "*.b.example.com"]}, ["a.example.com", "*.b.example.com"]),
            ({"allowed_hosts": ["a.example.com:443"], "network": "allowlist"}, ["a.example.com:443"]),
        ],
    )
    def test_it_may_ask_for_less(self, listed: Api, proxy: Process, asked: dict[str, Any], hosts: list[str]) -> None:
        made = create(listed, **asked).json()
        assert made["allowed_hosts"] == hosts and made["network"] == ("allowlist" if hosts else "none")

    @pytest.mark.parametrize(
        "asked",
        [
            {"allowed_hosts": ["evil.example.org"]}, {"allowed_hosts": ["pypi.org", "example.com"]}, {"allowed_hosts": ["*.org"]},
            {"allowed_hosts": ["pypi.org:22"]}, {"allowed_hosts": ["api.example.net"]}, {"allowed_hosts": []}, {"network": "all"},
            {"network": "none", "allowed_hosts": ["pypi.org"]}, {"network": True}, {"allowed_hosts": {"a": 1}},
        ],
    )  # fmt: skip
    def test_it_may_not_ask_for_more(self, listed: Api, proxy: Process, asked: dict[str, Any]) -> None:
        error_of(create(listed, **asked), 400, "InvalidParameter")
        assert not Session.objects.exists()

    @pytest.mark.parametrize("asked", [{"network": "allowlist"}, {"allowed_hosts": ["pypi.org"]}])
    def test_where_the_template_gives_none_there_is_none_to_be_had(
        self, api: Api, proxy: Process, asked: dict[str, Any]
    ) -> None:
        body = error_of(create(api, **asked), 400, "InvalidParameter")
        assert "gives no network" in body["error_detail"]

    def test_without_a_proxy_it_is_503_and_says_what_to_do(self, listed: Api, proxy: Process) -> None:
        Process.objects.filter(pk=proxy.pk).update(dead_at="2026-01-01T00:00:00Z")
        body = error_of(create(listed), 503, "RuntimeUnavailable")
        assert "proxy does not run" in body["error_detail"] and '"none"' in body["solution"]
        assert create(listed, network="none").status_code == 201


def test_counts_are_metrics(db: None) -> None:
    from collections import Counter

    outlets.count(Counter({("python-basic", "denied"): 2, ("python-basic", "allowed"): 1}))
    outlets.count(Counter({("python-basic", "denied"): 3}))
    text = metrics.exposition().decode()
    assert 'sandbox_egress_requests_total{template="python-basic",verdict="denied"} 5.0' in text
    assert 'sandbox_egress_requests_total{template="python-basic",verdict="allowed"} 1.0' in text


WARM = Container.objects.filter(status=ContainerStatus.WARM)
PROXIES = "import os\nprint(os.environ.get('https_proxy', 'none'))"


@pytest.mark.bubblewrap
class TestSandboxes:
    @pytest.fixture
    def wide(self, live: Api, settings: Any) -> Api:
        """A client of a service whose python-basic has a list."""
        settings.PROCESS_STALE_AFTER = 600  # the gateway's heartbeat stands still here
        Process.objects.create(kind="egress", host="here", pid=1)
        Template.objects.update(network="allowlist", allowed_hosts=HOSTS)
        return live

    def test_whose_sandbox_may_go_out_is_said_by_the_rows(self, wide: Api) -> None:
        narrow, none = wide.session(allowed_hosts=["a.example.com"]), wide.session(network="none")
        (outlet,) = outlets.outlets()
        assert (outlet.session, outlet.hosts, outlet.template) == (narrow, ("a.example.com",), "python-basic")
        assert outlet.socket.is_socket() and outlets.wanted()
        assert wide.run(narrow, PROXIES)["stdout"] == "http://127.0.0.1:3128\n"
        assert wide.run(none, PROXIES)["stdout"] == "none\n"
        wide.delete(f"/sessions/{narrow}")
        assert outlets.outlets() == []

    def test_a_warm_sandbox_goes_to_whoever_has_a_part_of_the_list_and_to_nobody_without(self, wide: Api) -> None:
        Template.objects.update(warm_pool_size=1)
        name = eventually(WARM.first).name
        none = wide.session(network="none")
        assert Container.objects.get(session=none).name != name
        narrow = wide.session(allowed_hosts=["pypi.org"])
        assert Container.objects.get(session=narrow).name == name
        assert [outlet.hosts for outlet in outlets.outlets()] == [("pypi.org",)]

    def test_the_pool_is_made_anew_when_the_template_gets_or_loses_its_list(self, wide: Api) -> None:
        Template.objects.update(warm_pool_size=1)
        first = eventually(WARM.filter(egress=True).first)
        Template.objects.update(network="none")
        pool.balance(first.node)
        assert eventually(WARM.filter(egress=False).first).name != first.name
        eventually(lambda: Container.objects.get(pk=first.pk).status == ContainerStatus.REMOVED)
