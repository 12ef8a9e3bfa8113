"""The user's own words: blocks of the quickstart, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

QUICKSTART = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text()


def block(heading: str, language: str) -> str:
    """The first code block in `language` below the heading."""
    section = re.split(rf"^## {re.escape(heading)}$", QUICKSTART, flags=re.MULTILINE)[1]
    found = re.search(rf"^```{language}\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    assert found, f"{heading}: no {language} block"
    return found[1]
