"""Storage debts: what is still to be copied or erased, in rows. `copies` pays them."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from sandbox_platform.models import Process
from sandbox_platform.queue import Queue, depth, enqueue
from sessions_app.models import Owed, Session, StorageDebt

URGENCY = [Owed.COPY, Owed.SAVE, Owed.ERASE]
# Seconds. Runs that follow each other closely are copied together.
COPY_DELAY = 1


def owe(session_id: str, what: Owed) -> None:
    """There is something to copy or erase. Call inside the transaction of the change. A run costs one statement."""
    for _ in range(3):
        if StorageDebt.objects.filter(pk=session_id, what=what).update(generation=F("generation") + 1):
            return
        weaker = URGENCY[: URGENCY.index(what)]
        debt = StorageDebt.objects.filter(pk=session_id).first()
        if debt is not None and debt.what not in weaker:
            return
        if debt is not None:
            changed = StorageDebt.objects.filter(pk=session_id, what__in=weaker).update(
                what=what, generation=F("generation") + 1, next_try_at=Now(), since=Now(), attempts=0
            )
            if changed:
                break
        else:
            due = timezone.now() + dt.timedelta(seconds=COPY_DELAY if what == Owed.COPY else 0)
            row = StorageDebt(session_id=session_id, what=what, next_try_at=due)
            StorageDebt.objects.bulk_create([row], ignore_conflicts=True)
            break
    if what != Owed.COPY:  # those the ticker rings for, some together
        enqueue(Queue.COPIES, "sessions_app.tasks.pay", session_id)


def ring() -> None:
    """Have those debts paid that are due and that nobody is at, the most urgent first."""
    if depth(Queue.COPIES) > 100:
        return
    due = StorageDebt.objects.filter(free(), lost_at=None, next_try_at__lte=Now())
    pending = list(due.values_list("what", "pk")[:200])
    for _, pk in sorted(pending, key=lambda item: URGENCY.index(Owed(item[0])), reverse=True):
        enqueue(Queue.COPIES, "sessions_app.tasks.pay", pk)


def free() -> Q:
    living = Process.objects.filter(dead_at=None).values("pk")
    return Q(taker=None) | ~Q(taker__in=living)


def keeps(session: Session) -> bool:
    """Whether the sandbox of an ended session must stay for its files. The first question makes the debt."""
    if session.files_saved_at or session.purge or session.container is None or not session.container.socket:
        return False
    debt = StorageDebt.objects.filter(pk=session.pk).first()
    if debt is not None and debt.lost_at:
        return False
    if debt is None or debt.what == Owed.COPY:
        with transaction.atomic():
            owe(session.pk, Owed.SAVE)
    return True


def unsaved_containers() -> frozenset[str]:
    """The names of the sandboxes that hold files which are nowhere else."""
    debts = StorageDebt.objects.filter(what=Owed.SAVE, lost_at=None, session__released_at=None)
    return frozenset(debts.exclude(session__container=None).values_list("session__container__name", flat=True))
