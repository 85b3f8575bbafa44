"""Sums snapshots up into hours, and lets go of what is old."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

from monitoring import history, series, sweeps
from tenants.models import Tenant
from zcplatform.lib import clock

ROLL_UP_EVERY_S, PRUNE_EVERY_S, LEASE_S = 600.0, 86_400.0, 900.0


def roll_up(*, soonest_s: float = 0) -> sweeps.Outcome | None:
    """The present hour and those before it since this last went well, a week at most. Again changes nothing. None when
    another turn is still at work, or began less than ``soonest_s`` ago."""
    return sweeps.run("rollup", every_s=ROLL_UP_EVERY_S, lease_s=LEASE_S, work=_roll_up, soonest_s=soonest_s)


def _roll_up(turn: sweeps.Turn) -> sweeps.Outcome:
    now = clock.now()
    since = min(turn.since or now, now) - timedelta(hours=1)
    first = series.hour_of(max(int(since.timestamp()), int(now.timestamp()) - series.RAW_DAYS * series.DAY_S))
    hours = range(first, int(now.timestamp()) + 1, series.HOUR_S)
    tenants = list(Tenant.objects.alive().order_by("pk").values_list("pk", flat=True))
    for hour in hours:
        series.roll_up(hour, tenants)
    return sweeps.Outcome(len(tenants) * len(hours))


def prune() -> sweeps.Outcome | None:
    """Snapshots after a week, hours after a year, usage after ``USAGE_DAYS``, runs and events after
    ``HISTORY_DAYS``."""
    return sweeps.run("prune", every_s=PRUNE_EVERY_S, lease_s=LEASE_S, work=_prune)


def _prune(turn: sweeps.Turn) -> sweeps.Outcome:
    gone = series.prune(int(clock.now().timestamp()), usage_days=settings.USAGE_DAYS)
    return sweeps.Outcome(gone + history.prune(days=settings.HISTORY_DAYS, writing=turn.writing))
