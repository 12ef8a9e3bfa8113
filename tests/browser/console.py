"""A person at the console: a page of a real browser, and what people do with it."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.e2e.service import Service

ROOT = Path(__file__).parents[2]
AXE = ROOT / "tests/js/node_modules/axe-core/axe.min.js"
DESKTOP, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}


class Console:
    """Logged in as `user`. What the browser complains about is collected in `complaints`."""

    def __init__(
        self, browser: Browser, service: Service, user: str, password: str, theme: str = "light", phone: bool = False
    ) -> None:
        self.service, self.base = service, f"{service.url}/admin"
        size = PHONE if phone else DESKTOP
        self.context = browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce", is_mobile=phone)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self.name = f"{'phone' if phone else 'desktop'}-{theme}"
        self.open("")
        self.page.fill("#id_username", user)
        self.page.fill("#id_password", password)
        self.page.click("input[type=submit]")
        expect(self.page.locator("#user-tools")).to_contain_text(user)

    def _hear(self, message: ConsoleMessage) -> None:
        # axe and the camera put styles of their own into the page, which its policy blocks.
        if message.type == "error" and "Applying inline style" not in message.text:
            self.complaints.append(message.text)

    def open(self, path: str) -> Page:
        """A page below /admin/."""
        self.page.goto(f"{self.base}/{path}")
        return self.page

    def press(self, label: str) -> None:
        """A button at the top of a row's page."""
        self.page.click(f'.object-tools a:text-is("{label}")')

    def confirm(self, label: str) -> None:
        """The button of a confirmation page."""
        self.page.click(f'.confirm input[value="{label}"]')

    def offers(self) -> set[str]:
        """The buttons at the top of the page."""
        return {text.strip() for text in self.page.locator(".object-tools a").all_inner_texts()}

    def faults(self) -> list[str]:
        """What axe finds that is serious, on the page that is open."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("async () => (await axe.run()).violations")
        bad = [one for one in found if one["impact"] in ("serious", "critical")]
        return [f"{one['id']}: {one['help']} at {[node['target'] for node in one['nodes'][:3]]}" for one in bad]

    def keep(self, name: str) -> None:
        """A picture for the documentation, where SCREENSHOTS asks for them."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.wait_for_timeout(600)
            self.page.screenshot(path=Path(folder) / f"{name}-{self.name}.png", full_page=True)
