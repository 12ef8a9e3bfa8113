"""No serious fault of accessibility on any main page, by day and by night, on a desk and on a phone. And the pictures of docs/."""

from __future__ import annotations

import os

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser"), pytest.mark.timeout(240)]
LOOKS = [{"theme": "light"}, {"theme": "dark", "phone": True}]
if os.environ.get("SCREENSHOTS"):
    LOOKS += [{"theme": "dark"}, {"theme": "light", "phone": True}]

# Of which docs/ has pictures.
KEPT = {"dashboard", "sessions", "session", "execution", "containers", "templates", "template"}


def pages(ids: dict[str, str]) -> dict[str, str]:
    return {
        "dashboard": "",
        "sessions": "sessions_app/session/",
        "session": f"sessions_app/session/{ids['session']}/change/",
        "terminate": f"sessions_app/session/{ids['session']}/do/terminate/",
        "executions": "executions_app/execution/",
        "execution": f"executions_app/execution/{ids['bad']}/change/",
        "containers": "runtime/container/?status__exact=running",
        "node": "runtime/node/node-01/change/",
        "templates": "templates_app/template/",
        "template": "templates_app/template/python-datascience/change/",
        "versions": "templates_app/templateversion/",
        "try": "try/python-basic/",
        "import": "templates_app/template/import/",
        "token": "sandbox_platform/apikey/add/",
        "history": "admin/logentry/",
    }


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: "-".join(map(str, look.values())))
def test_every_main_page_is_accessible_and_fits_its_screen(log_in, tenant, look):
    console = log_in(**look)
    found = {}
    for name, path in pages(tenant).items():
        page = console.open(path)
        page.wait_for_load_state("networkidle") if name == "dashboard" else None
        if name in KEPT:
            console.keep(name)
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if faults := console.faults() + ([f"{wider} pixels wider than its screen"] if wider > 1 else []):
            found[name] = faults
    console.open(f"runtime/container/?q={tenant['container']}").click("#result_list tbody th a")
    console.page.wait_for_selector('[data-field="memory_bytes"]:not(:empty)')
    console.page.wait_for_timeout(4500)  # some points for its charts
    console.keep("container")
    if faults := console.faults():
        found["container"] = faults
    assert not found, "\n".join(f"{name}: {fault}" for name, faults in found.items() for fault in faults)
    assert console.complaints == []
