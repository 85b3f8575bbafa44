"""One turn of a periodic sweep: under a lease, so that two never overlap; timed, so that one that takes too long shows.

The queue's scheduler neither catches up nor prevents overlap (docs/adr/0004-queue.md). A turn that finds the one
before still at work does nothing but say so; tasks that piled up while every worker was busy are one turn. What a turn
writes, it writes through ``writing``: a worker that was frozen and overtaken can't.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from monitoring.models import Sweep
from zcplatform.lib import claims
from zcplatform.lib.contained import EndsTheLoop
from zcplatform.lib.redact import scrub

log = logging.getLogger(__name__)
ERROR_CAP = 1_000


class Overtaken(EndsTheLoop):
    """Another worker holds the sweep now: write nothing more."""


@dataclass(frozen=True)
class Outcome:
    """How many were looked at, and for how many of them that failed."""

    items: int
    failures: int = 0


@dataclass(frozen=True)
class Turn:
    """``number`` counts the turns of this sweep; it goes up by one each time, whatever the clock does. ``since`` is
    when one last ended well."""

    sweep_id: int
    number: int
    lease_s: float
    since: datetime | None

    @property
    def held(self) -> QuerySet[Sweep]:
        """The sweep's row while the turn is ours."""
        return claims.held(Sweep.objects.all(), pk=self.sweep_id, epoch=self.number)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that only commits while the turn is ours; raises Overtaken otherwise."""
        with transaction.atomic():
            # First of all: on PostgreSQL this locks the sweep's row until the commit.
            if not claims.renew(self.held, seconds=self.lease_s):
                raise Overtaken
            yield


def run(
    name: str, *, every_s: float, lease_s: float, work: Callable[[Turn], Outcome], soonest_s: float = 0
) -> Outcome | None:
    """Do ``work`` as the only one, and note how it went. None when another turn is still at work, or took over, or
    began less than ``soonest_s`` ago.

    ``every_s`` is the interval at which this is called: what exceeds it is the lag.
    """
    row, _ = Sweep.objects.get_or_create(name=name)
    owner = f"{os.getpid()}:{uuid.uuid4().hex[:8]}"
    # From then to now, so that a clock that was put back stops nothing.
    since = (Now() - timedelta(seconds=soonest_s), Now())
    due = Sweep.objects.exclude(started_at__range=since) if soonest_s else Sweep.objects.all()
    number = claims.claim(due, pk=row.pk, owner=owner, seconds=lease_s)
    if number is None:
        _note_overrun(row.pk, every_s)
        return None
    turn, before = Turn(row.pk, number, lease_s, row.finished_at), row.started_at
    Sweep.objects.filter(pk=row.pk).update(started_at=Now())
    lag = _lag_ms(before, Sweep.objects.values_list("started_at", flat=True).get(pk=row.pk), every_s)
    began = time.monotonic()
    try:
        outcome = work(turn)
    except Overtaken:
        log.warning("sweep overtaken", extra={"sweep": name, "turn": number})
        return None
    except Exception as error:
        _finish(turn, began, lag_ms=lag, error=scrub(f"{type(error).__name__}: {error}")[:ERROR_CAP])
        raise
    _finish(turn, began, lag_ms=lag, items=outcome.items, failures=outcome.failures, error="", finished_at=Now())
    return outcome


def _note_overrun(sweep_id: int, every_s: float) -> None:
    """The turn under way is late in ending: that is lag already. Nothing when there is none, and it was too soon."""
    row = Sweep.objects.filter(pk=sweep_id, lease_until__gt=Now()).annotate(now=Now()).first()
    if row is None:
        return
    lag = _lag_ms(row.started_at, row.now, every_s)
    Sweep.objects.filter(pk=sweep_id, epoch=row.epoch).update(overruns=F("overruns") + 1, lag_ms=lag)
    log.warning("sweep is still at work", extra={"sweep": row.name, "lag_ms": lag})


def _lag_ms(before: datetime | None, now: datetime | None, every_s: float) -> int:
    """By how much this turn began late. A clock that was put back makes no turn early."""
    if before is None or now is None:
        return 0
    return max(0, round(((now - before) - timedelta(seconds=every_s)).total_seconds() * 1000))


def _finish(turn: Turn, began: float, **facts: object) -> None:
    claims.release(turn.held, duration_ms=round((time.monotonic() - began) * 1000), **facts)
