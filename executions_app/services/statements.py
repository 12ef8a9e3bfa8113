"""What a run writes on PostgreSQL: one statement at each of its steps, in place of a transaction of four to six.

Each is complete in itself and does what its counterpart for all databases does (`submit.py`, `finish.py`); see `direct.chains`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from executions_app.models import Execution, ExecutionStatus
from executions_app.services import doorbell, target
from runtime.models import Container
from sandbox_platform import direct, wakeups
from sandbox_platform.auth import STILL_LIVE, still_live_params
from sandbox_platform.bells import RING, channel_of
from sandbox_platform.models import ApiKey
from sessions_app.models import Session, SessionStatus
from sessions_app.services import lifecycle
from templates_app.models import Template

TABLE = Execution._meta.db_table
WAITING = f"SELECT 1 FROM {TABLE} WHERE session_id = %s AND status = %s LIMIT 1"  # noqa: S608
START = f"""
    WITH slot AS (
        {lifecycle.TAKE_SLOT} AND project_id = %s AND {STILL_LIVE} AND EXISTS (
            SELECT 1 FROM {Template._meta.db_table} t WHERE t.id = template_id AND t.languages ? %s)
        RETURNING {", ".join(target.SESSION)}),
    made AS (INSERT INTO {{columns}} SELECT {{values}} FROM slot CROSS JOIN {direct.NO_WAIT} RETURNING 1)
    SELECT {target.COLUMNS} FROM slot s CROSS JOIN made LEFT JOIN {Container._meta.db_table} c ON c.name = s.container_id
"""  # noqa: S608
QUEUE = f"""
    WITH live AS (
        UPDATE {Session._meta.db_table} SET last_activity_at = {direct.NOW}
        WHERE id = %s AND closing = '' AND status IN (%s, %s) AND (expires_at IS NULL OR expires_at > {direct.NOW}) RETURNING 1
    ),
    room AS (SELECT count(*) < %s AS there FROM (SELECT 1 FROM {TABLE} WHERE status = %s LIMIT %s) AS pending),
    made AS (INSERT INTO {{columns}} SELECT {{values}} FROM live CROSS JOIN room WHERE room.there RETURNING 1),
    task AS ({doorbell.TASK} FROM made RETURNING id)
    SELECT EXISTS(SELECT 1 FROM live), room.there, (SELECT id FROM task), (SELECT {{ring}} FROM task) FROM room
"""  # noqa: S608
STORE = f"""
    WITH done AS (UPDATE {TABLE} SET {{changes}} WHERE id = %s AND status = %s RETURNING 1),
    freed AS ({lifecycle.FREE_SLOT.replace("WHERE", "WHERE EXISTS (SELECT 1 FROM done) AND")})
    SELECT freed.status, freed.closing, freed.was_full, EXISTS({WAITING}), {{ring}} FROM freed
"""  # noqa: S608


class Admitted(NamedTuple):
    """Whether the session takes runs, and whether the queue had room; both, and it is in there."""

    live: bool
    room: bool


class After(NamedTuple):
    """How the session stands after the end of a run, and whether those who wait for the run have been woken."""

    freed: lifecycle.Freed
    waiting: bool
    rung: bool


def start(execution: Execution, key: ApiKey) -> bool:
    """Take a slot of its session, if that is the key's project's and speaks its language, and insert it, without waiting for the disk.

    Its session is read with it. False where there is no such slot, or the key is live no more.
    """
    columns, params = direct.columns_of(execution)
    mine = [execution.project_id, *still_live_params(key), execution.language]
    slot = [*lifecycle.slot_params(execution.session_id), *mine]
    row = direct.one(START.format(columns=columns, values=_holes(params)), [*slot, *params])
    if row is None:
        return False
    execution.session = target.of_row(row)
    direct.inserted(execution)
    return True


def queue(execution: Execution, most: int) -> Admitted:
    """Insert it as pending, with the task that starts it, where fewer than `most` are waiting in all; and ring its doorbell."""
    columns, params = direct.columns_of(execution)
    ring, rung = doorbell.words(execution.session_id)
    pending = str(ExecutionStatus.PENDING)
    row = direct.one(
        QUEUE.format(columns=columns, values=_holes(params), ring=ring),
        [
            *(execution.session_id, str(SessionStatus.CREATING), str(SessionStatus.RUNNING)),
            *(most, pending, most, *params),
            *(*doorbell.task_params(execution.session_id), *rung),
        ],
    )
    assert row is not None
    admitted = Admitted(row[0], row[1])
    if all(admitted):
        direct.inserted(execution)
        if not rung:
            doorbell.publish(execution.session_id, row[2])
    return admitted


def store(execution: Execution, changes: dict[str, Any], ring: bool = True) -> After | None:
    """Write its end, free its slot and, with `ring`, wake who waits for it. None if it had ended already.

    It does not see a run that was submitted after it began, while it waited for the session. The doorbell of that run may have been
    answered before this is committed: where no slot was free then, only a second look finds it.
    """
    assignments, params = direct.changes_of(Execution, changes)
    words, rung = _ring(execution.topic) if ring else ("NULL", [])
    params += [execution.pk, ExecutionStatus.RUNNING, execution.session_id]
    waiting = [execution.session_id, ExecutionStatus.PENDING]
    row = direct.one(STORE.format(changes=assignments, ring=words), [*params, *waiting, *rung])
    if row is None:
        return None
    freed = lifecycle.Freed(*row[:3])
    return After(freed, row[3] or (freed.was_full and direct.one(WAITING, waiting) is not None), bool(rung))


def _holes(params: list[Any]) -> str:
    return ", ".join(["%s"] * len(params))


def _ring(topic: str) -> tuple[str, list[str]]:
    return (RING, [channel_of(topic), topic]) if wakeups.rides() else ("NULL", [])
