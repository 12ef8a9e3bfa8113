"""Storing how a run ended, whatever its executor has put into it."""

from __future__ import annotations

import structlog

from executions_app.models import Execution
from executions_app.services import ending
from executions_app.services.ending import Ending
from executions_app.services.finish import finish
from sandbox_platform.errors import OUTAGE

log = structlog.get_logger(__name__)


def keep(execution: Execution, end: Ending, answered: bool = False) -> bool:
    """`finish`. An end that can't be stored is stored as that of a lost run, without output. Raises one of OUTAGE."""
    try:
        return finish(execution, end, answered)
    except OUTAGE:
        raise
    except Exception:
        log.exception("end_not_storable", execution=execution.pk)
        return finish(execution, ending.without_result(None, "lost", "The run's result could not be stored"))
