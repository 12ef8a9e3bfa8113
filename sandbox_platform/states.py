"""State changes: one conditional UPDATE that names the allowed sources and says whether it won."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import models

Arrows = Mapping[str, frozenset[str]]


class StateQuerySet(models.QuerySet):
    """For models with a `status` field and `ARROWS`: from each state, the states that may follow."""

    def move(self, to: str, **values: Any) -> int:
        """Set `status` to `to` (and `values`) on the rows from which an arrow leads there. How many rows moved."""
        arrows: Arrows = self.model.ARROWS
        sources = [state for state, targets in arrows.items() if to in targets]
        return self.filter(status__in=sources).update(status=to, **values)


class StateModel(models.Model):
    """A row with a state machine. `move` changes one row and keeps the instance in step when it won."""

    ARROWS: ClassVar[Arrows]
    status: Any
    objects = StateQuerySet.as_manager()

    class Meta:
        abstract = True

    def move(self, to: str, **values: Any) -> bool:
        """True if this call made the change; False if the row was elsewhere by then (`refresh_from_db` tells where)."""
        won = bool(type(self).objects.filter(pk=self.pk).move(to, **values))
        if won:
            for name, value in {"status": to, **values}.items():
                setattr(self, name, value)
        return won
