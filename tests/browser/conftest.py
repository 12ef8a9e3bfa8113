"""One service and one browser for all tests here; somebody of each role; and a tenant that has run something."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests import npm, requirements
from tests.browser.console import Console
from tests.e2e.service import ROOT, Service

PASSWORD = "a-long-enough-passphrase"
PEOPLE = """
from django.contrib.auth.models import Group, User
for name in ("Operator", "Template curator", "Auditor"):
    user = User.objects.create_user(name.split()[-1].lower(), password=%r, is_staff=True)
    user.groups.add(Group.objects.get(name=name))
"""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """`manage.py up` with bubblewrap."""
    requirements.need("browser")
    requirements.need("bubblewrap")
    service = Service("bubblewrap")
    try:
        service.start()
        environment = {
            **os.environ,
            "SANDBOX_STATE_DIR": str(service.state),
            "DJANGO_SETTINGS_MODULE": "sandbox_platform.settings",
        }
        environment.pop("DATABASE_URL", None)
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-c", PEOPLE % PASSWORD], cwd=ROOT, env=environment, check=True
        )
        yield service
    finally:
        service.remove()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless. axe comes from npm, by the lock file."""
    requirements.need("browser")
    npm.install()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=requirements.chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def tenant(service: Service) -> dict[str, str]:
    """A running session with runs that went well, badly and strangely: the ids."""
    body = {
        "template_id": "python-basic",
        "timeout": 3600,
        "labels": {"team": "<b>red</b>"},
        "env_vars": {"API_TOKEN": "not-for-the-screen"},
    }
    session = service.api("POST", "/sessions", json=body, headers={"Prefer": "wait=60"}).json()
    assert session["status"] == "running", session
    codes = {
        "good": 'import time\n\n\ndef handler(event):\n    """Add up what comes in."""\n    print("adding", event)\n    time.sleep(0.02)\n'
        '    return {"sum": event["a"] + event["b"]}\n',
        "bad": "def parse(text):\n    return int(text)\n\n\nprint('about to fail')\nparse('forty-two')\n",
        "strange": "print(\"\\x1b[31mred\\x1b[0m <script>document.title = 'owned'</script> \\u202eevil\")",
    }
    ids = {"session": session["session_id"], "container": session["container_id"]}
    for name, code in codes.items():
        run = {"code": code, "language": "python", "event": {"a": 40, "b": 2}}
        answer = service.api("POST", f"/sessions/{ids['session']}/execute", json=run, headers={"Prefer": "wait=30"})
        ids[name] = answer.json()["execution_id"]
    return ids


@pytest.fixture
def log_in(browser: Browser, service: Service) -> Iterator[Callable[..., Console]]:
    """`log_in()` is the superuser, `log_in("auditor")` somebody of that role."""
    opened: list[Console] = []

    def enter(user: str = "admin", **look: Any) -> Console:
        password = (service.state / "admin-password").read_text().strip() if user == "admin" else PASSWORD
        opened.append(Console(browser, service, user, password, **look))
        return opened[-1]

    yield enter
    for console in opened:
        console.context.close()
