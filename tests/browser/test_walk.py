"""The way of an operator through the console, in a real browser against a real service."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser"), pytest.mark.timeout(240)]


def test_a_template_is_made_built_tried_and_published(log_in, service):
    console = log_in()
    page = console.open("templates_app/template/add/")
    page.fill("#id_id", "data-tools")
    page.fill("#id_name", "Data tools")
    page.fill("#id_pre_installed_packages", "attrs==25.3.0")
    page.check("#id_languages input[value=javascript]")
    page.fill("#id_npm_packages", "is-odd@latest")
    page.fill("#id_preload", "attr")
    page.fill("#id_cpu", "9")
    page.click("input[name=_continue]")
    expect(page.locator(".field-cpu .errorlist")).to_contain_text('must be "0.5" to "4"')
    expect(page.locator(".field-npm_packages .errorlist")).to_contain_text("is-odd@latest")
    page.fill("#id_cpu", "1")
    page.fill("#id_npm_packages", "is-odd@3.0.1")
    page.click("input[name=_continue]")
    expect(page.locator(".messagelist")).to_contain_text("Version 1 is a draft")
    assert service.api("GET", "/templates/data-tools").status_code == 404

    console.press("Build")
    console.confirm("Build")
    log = page.locator('[data-field="log"]')
    expect(log).to_contain_text("attrs==25.3.0", timeout=60_000)
    expect(page.locator(".badge-succeeded").first).to_be_visible(timeout=60_000)
    expect(log).to_contain_text("imports attr")
    expect(log).to_contain_text("requires is-odd")
    expect(page.locator(".card", has_text="Packages, frozen")).to_contain_text("is-number@6.0.0")
    console.keep("build")

    page.click('a:text-is("Try it")')
    page.fill(
        "#id_code",
        "import attr\n\ndef handler(event):\n    print('tried', attr.__version__)\n    return event['a'] * 2\n",
    )
    page.fill("#id_event", '{"a": 21}')
    page.click('input[value="Run"]')
    expect(page.locator('[data-field="result"]')).to_have_text("42")
    expect(page.locator('[data-field="stdout"]')).to_contain_text("tried 25.3.0")
    console.keep("trial")

    page = console.open("templates_app/template/data-tools/change/")
    page.click('table.plain a:text-is("v1")')
    console.keep("version")
    console.press("Publish")
    console.confirm("Publish")
    expect(page.locator(".messagelist")).to_contain_text("Published")
    assert service.api("GET", "/templates/data-tools").json()["status"] == "ready"
    assert console.complaints == []


def test_a_container_is_watched_and_its_session_terminated_and_both_stand_in_the_history(log_in, service):
    session = service.api(
        "POST", "/sessions", json={"template_id": "python-basic"}, headers={"Prefer": "wait=60"}
    ).json()
    console = log_in()
    page = console.open(f"sessions_app/session/{session['session_id']}/change/")
    page.click(f'td a:text-is("{session["container_id"]}")')
    expect(page.locator(".badge-good").first).to_be_visible()
    log = page.locator('[data-field="log"]')
    expect(log).to_contain_text("ready")
    expect(page.locator('[data-field="memory_bytes"]')).to_contain_text("MiB")
    before = log.inner_text()
    run = {"code": "raise SystemExit(3)", "language": "python"}
    service.api("POST", f"/sessions/{session['session_id']}/execute", json=run, headers={"Prefer": "wait=20"})
    expect(log).not_to_have_text(before, timeout=15_000)

    console.press("Drain")
    page.go_back()
    page.click(f'td a:text-is("{session["session_id"]}")')
    console.press("Terminate")
    expect(page.locator(".confirm")).to_contain_text("Running code is stopped")
    console.confirm("Terminate")
    expect(page.locator(".messagelist")).to_contain_text("Terminated")
    expect(page.locator(".badge-terminated").first).to_be_visible()
    console.press("History")
    expect(page.locator("#change-history")).to_contain_text("Terminated")
    assert service.api("GET", f"/sessions/{session['session_id']}").json()["status_reason"] == "terminated_by_operator"
    assert console.complaints == []


def test_what_a_tenant_prints_runs_nothing(log_in, tenant):
    console = log_in()
    page = console.open(f"executions_app/execution/{tenant['strange']}/change/")
    expect(page.locator("pre", has_text="␛[31mred").first).to_be_visible()
    assert "owned" not in page.title()
    page = console.open(f"sessions_app/session/{tenant['session']}/change/")
    assert "not-for-the-screen" not in page.content()
    expect(page.locator("td", has_text="API_TOKEN=••••")).to_be_visible()
    assert console.complaints == []


@pytest.mark.parametrize(
    ("user", "buttons"), [("operator", {"Extend", "Terminate", "History"}), ("auditor", {"History"})]
)
def test_a_role_is_offered_what_it_may_do(log_in, tenant, user, buttons):
    console = log_in(user)
    console.open(f"sessions_app/session/{tenant['session']}/change/")
    assert console.offers() == buttons
    page = console.open("sessions_app/session/")
    assert page.locator("select[name=action] option[value=terminate]").count() == (user == "operator")
    assert page.goto(f"{console.base}/templates_app/template/add/").status == 403


def test_a_curator_sees_nothing_of_tenants(log_in, tenant):
    console = log_in("curator")
    assert "Sessions" not in console.page.locator("#nav-sidebar").inner_text()
    assert console.page.goto(f"{console.base}/sessions_app/session/{tenant['session']}/change/").status == 403
    console.open("templates_app/template/python-basic/change/")
    assert {"Try it", "Build", "Deprecate"} <= console.offers()
