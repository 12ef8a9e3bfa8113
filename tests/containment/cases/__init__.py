"""The cases about containment, by family, in the order of their numbers."""

from __future__ import annotations

import re
from types import ModuleType

from tests.containment.cases import egress, kernel, limits, neighbours, results, tampering, workspace
from tests.containment.cases.case import Case

FAMILIES = (limits, results, kernel, neighbours, egress, workspace)


def cases(times: int) -> list[Case]:
    """All of them, the attacks on the executor so many times each."""
    found = [case for family in FAMILIES for case in _of(family)] + tampering.tampering(times)
    return sorted(found, key=lambda case: [int(number) for number in re.findall(r"\d+", case.number)])


def _of(family: ModuleType) -> list[Case]:
    return [item for item in vars(family).values() if isinstance(item, Case)]
