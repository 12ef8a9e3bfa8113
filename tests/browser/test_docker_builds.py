"""Templates on the Docker driver, by its engine's own builds: made, watched, cancelled, tried, published, rolled back."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing

import docker
import pytest
from playwright.sync_api import expect

from tests import requirements
from tests.e2e.service import Service

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("browser"), pytest.mark.timeout(420)]
# Of this run alone: an image that an earlier one left would be found instead of built.
NAME = f"docker-{secrets.token_hex(3)}"
# Large enough that its image takes a while: there is time to think better of it.
LARGE = "numpy\nscipy"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """`manage.py up` with Docker. What it leaves on the engine is removed."""
    requirements.need("browser")
    requirements.need("docker")
    service = Service("docker")
    client = docker.from_env(timeout=120)
    try:
        service.start()
        yield service
    finally:
        instance = (service.state / "instance-id").read_text().strip().lower()
        service.remove()
        for image in client.images.list():
            for tag in image.tags:
                if tag.startswith((f"sandbox-images/{instance}:", f"sandbox/{NAME}:")):
                    client.images.remove(tag)
        client.close()


def images_of(name: str) -> set[str]:
    """Ids of the images of a template that the engine has."""
    with closing(docker.from_env()) as client:
        return {str(image.id) for image in client.images.list(filters={"label": f"sbx.template={name}"})}


def build(console) -> None:
    console.press("Build")
    console.confirm("Build")


def version(console, number: int) -> None:
    console.open(f"templates_app/template/{NAME}/change/").click(f'table.plain a:text-is("v{number}")')


def test_a_template_is_built_watched_cancelled_tried_published_and_rolled_back(log_in, service):
    console = log_in()
    page = console.open("templates_app/template/add/")
    page.fill("#id_id", NAME)
    page.fill("#id_name", "Docker tools")
    page.fill("#id_pre_installed_packages", "attrs==25.3.0")
    page.fill("#id_preload", "attr")
    page.check("#id_languages input[value=javascript]")
    page.fill("#id_npm_packages", "is-odd@3.0.1")
    page.click("input[name=_continue]")
    expect(page.locator(".messagelist")).to_contain_text("Version 1 is a draft")

    version(console, 1)
    expect(page.locator("pre", has_text="COPY site /opt/sandbox/site")).to_contain_text(
        "uv pip install --target site attrs==25.3.0"
    )
    build(console)
    log = page.locator('[data-field="log"]')
    expect(log).to_contain_text("COPY executor /opt/sandbox/executor", timeout=180_000)
    expect(page.locator(".badge-succeeded").first).to_be_visible(timeout=180_000)
    for words in ("Successfully built", "imports attr", "requires is-odd", "javascript returns"):
        expect(log).to_contain_text(words)
    frozen = page.locator(".card", has_text="Packages, frozen")
    expect(frozen).to_contain_text("attrs==25.3.0")
    expect(frozen).to_contain_text("is-number@6.0.0")
    good = images_of(NAME)
    assert len(good) == 1
    expect(page.locator("td", has_text=good.copy().pop()).first).to_be_visible()

    page.click('a:text-is("Try it")')
    page.select_option("#id_language", "javascript")
    page.fill("#id_code", "function handler(event) {\n  return require('is-odd')(event.a);\n}\n")
    page.fill("#id_event", '{"a": 21}')
    page.click('input[value="Run"]')
    expect(page.locator('[data-field="result"]')).to_have_text("true")
    version(console, 1)
    console.press("Publish")
    console.confirm("Publish")
    assert service.api("GET", f"/templates/{NAME}").json()["status"] == "ready"

    page = console.open(f"templates_app/template/{NAME}/change/")
    page.fill("#id_pre_installed_packages", LARGE)
    page.fill("#id_preload", "scipy")
    page.click("input[name=_continue]")
    version(console, 2)
    build(console)
    expect(log).to_contain_text("Installing numpy", timeout=60_000)
    console.press("Cancel")
    expect(page.locator(".confirm")).to_contain_text("leaves nothing behind")
    console.confirm("Cancel")
    expect(page.locator(".badge-cancelled").first).to_be_visible(timeout=120_000)
    assert images_of(NAME) == good
    version(console, 2)
    assert "Publish" in console.offers()
    console.press("Publish")
    console.confirm("Publish")
    expect(page.locator(".messagelist")).to_contain_text(f"No build of {NAME} v2 has passed its smoke test yet")

    page = console.open(f"templates_app/template/{NAME}/change/")
    page.fill("#id_pre_installed_packages", "attrs==25.4.0")
    page.fill("#id_preload", "attr")
    page.click("input[name=_continue]")
    version(console, 3)
    build(console)
    expect(page.locator(".badge-succeeded").first).to_be_visible(timeout=180_000)
    version(console, 3)
    console.press("Publish")
    console.confirm("Publish")
    assert in_use(service) == "25.4.0"
    version(console, 1)
    console.press("Roll back to this")
    console.confirm("Roll back to this")
    expect(page.locator(".messagelist")).to_contain_text("Rolled back")
    assert in_use(service) == "25.3.0"
    assert service.api("GET", f"/templates/{NAME}").json()["pre_installed_packages"] == ["attrs==25.3.0"]
    assert console.complaints == []


def in_use(service: Service) -> str:
    """The version of attrs that a new session has."""
    wait = {"Prefer": "wait=60"}
    session = service.api("POST", "/sessions", json={"template_id": NAME}, headers=wait).json()
    run = {"code": "import attr\n\ndef handler(event):\n    return attr.__version__\n", "language": "python"}
    answer = service.api("POST", f"/sessions/{session['session_id']}/execute", json=run, headers=wait).json()
    service.api("DELETE", f"/sessions/{session['session_id']}")
    assert answer["status"] == "success", answer
    return answer["return_value"]
