"""The pages of the documentation: found from the README, with links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# As it was given: the pages at its end were never part of this repository.
OURS = [
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("[a-z]*/README.md")]
    if page.name != "quickstart.md"
]


def links(page: Path) -> set[str]:
    """Those to files."""
    return {link for link in LINK.findall(page.read_text()) if "://" not in link}


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are linked."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_found_from_the_readme() -> None:
    found = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    pages = {*(ROOT / "docs").glob("*.md"), *ROOT.glob("[a-z]*/README.md")}
    assert pages - found == set()


@pytest.mark.parametrize("page", OURS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_a_backup_takes_what_the_service_keeps() -> None:
    (names,) = re.findall(r"^tar -C var -czf \S+ (.+)$", (ROOT / "docs/operating.md").read_text(), re.MULTILINE)
    sources = [ROOT / "sandbox_platform/settings.py", ROOT / "sandbox_platform/supervisor/setup.py"]
    code = "".join(source.read_text() for source in sources)
    kept = set(re.findall(r"STATE_DIR / \"([a-z-]+)\"", code)) | set(re.findall(r"_write\(\"([a-z-]+)\"", code))
    assert kept - {"tmp"} == set(names.split())
