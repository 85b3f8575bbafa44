"""Lets go of runs with their steps, and of events, after ``HISTORY_DAYS``.

Kept for longer is what somebody still asks for: a run that is not over, with its tenant's events from then on, and of
each tenant the last run of every kind. What the counters said of a run stays said (``monitoring.exposition.ledger``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from django.db.models import Exists, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from monitoring.exposition import ledger
from tenants.models import Event, Run, StepRecord
from tenants.states import ACTIVE_RUN
from zcplatform.lib import clock

BATCH = 500
"""Rows of a transaction: no other writer waits for long."""
DAY = timedelta(days=1)

Writing = Callable[[], AbstractContextManager[None]]


def prune(*, days: int, writing: Writing) -> int:
    """Delete what is older than ``days``, the oldest first, in transactions of ``writing``; returns how many runs and
    events. A day and a tenth of what is kept goes at most, as in ``monitoring.series``."""
    keep = timedelta(days=days)
    return _in_batches(_runs, keep, writing, _drop_runs) + _in_batches(_events, keep, writing, _drop_events)


def _in_batches(
    older: Callable[[datetime], QuerySet[Run] | QuerySet[Event]],
    keep: timedelta,
    writing: Writing,
    drop: Callable[[list[int]], None],
) -> int:
    edge, gone = clock.now() - keep, 0
    oldest = older(edge).aggregate(at=Min("created_at"))["at"]
    due = older(min(edge, oldest + DAY + keep / 10)) if oldest else None
    while due is not None:
        with writing():
            batch = list(due.values_list("pk", flat=True)[:BATCH])
            drop(batch)
        gone += len(batch)
        if len(batch) < BATCH:
            break
    return gone


def _runs(before: datetime) -> QuerySet[Run]:
    later = Run.objects.filter(tenant=OuterRef("tenant"), kind=OuterRef("kind"), pk__gt=OuterRef("pk"))
    ended = Q(finished_at__lt=before) | Q(finished_at=None, created_at__lt=before)
    over = Run.objects.filter(ended).exclude(status__in=ACTIVE_RUN).exclude(lease_until__gt=Now())
    return over.filter(Exists(later)).order_by("pk")


def _events(before: datetime) -> QuerySet[Event]:
    at_work = Run.objects.filter(
        tenant=OuterRef("tenant"), status__in=ACTIVE_RUN, created_at__lte=OuterRef("created_at")
    )
    return Event.objects.filter(~Exists(at_work), created_at__lt=before).order_by("pk")


def _drop_runs(batch: list[int]) -> None:
    ledger.keep_sums(batch)
    StepRecord.objects.filter(run__in=batch).delete()
    Run.objects.filter(pk__in=batch).delete()


def _drop_events(batch: list[int]) -> None:
    Event.objects.filter(pk__in=batch).delete()
