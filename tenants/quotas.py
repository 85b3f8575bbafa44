"""The one engine of quotas: how much of what the plan gives is used. It refuses nothing itself; who serves a request
(the gateway, the door) asks here, and so do the alerts and the pages.

Messages count per day and tokens per calendar month, both in UTC. A message is one inbound message to the agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Q, Sum

from tenants.models import Tenant
from tenants.records import UsageHour
from zcplatform.lib import clock

MARKS = (100, 90, 80)
"""Percent of a quota at which somebody should hear of it, the highest first."""


@dataclass(frozen=True)
class Quota:
    """``period_start`` and ``resets_at`` are seconds since 1970. ``known`` is False when nothing was counted at all:
    then 0 used is a gap and not a fact."""

    name: str
    used: int
    limit: int
    period_start: int
    resets_at: int
    known: bool = True

    @property
    def share(self) -> float:
        """Of the limit; 1.0 is all of it, and more is possible."""
        return self.used / self.limit if self.limit else float(self.used > 0)

    @property
    def mark(self) -> int:
        """The highest of 80, 90 and 100 percent that is reached; 0 when none is."""
        return next((mark for mark in MARKS if self.used * 100 >= self.limit * mark and self.used), 0)


def of(tenant: Tenant) -> tuple[Quota, Quota]:
    """The tenant's messages of today and tokens of this month."""
    return of_many([tenant])[tenant.pk]


def of_many(tenants: Sequence[Tenant]) -> dict[int, tuple[Quota, Quota]]:
    """The same for many, by primary key, in two queries. Their plans must be at hand."""
    now = clock.now().astimezone(UTC)
    messages, tokens = day_of(now), month_of(now)
    keys = [tenant.pk for tenant in tenants]
    sent = _sums(keys, messages, ("messages_in",))
    spent = _sums(keys, tokens, ("tokens_in", "tokens_out"))
    return {
        t.pk: (
            _quota("messages", sent.get(t.pk), t.plan.max_messages_per_day, messages),
            _quota("tokens", spent.get(t.pk), t.plan.max_tokens_per_month, tokens),
        )
        for t in tenants
    }


def _quota(name: str, used: int | None, limit: int, period: tuple[int, int]) -> Quota:
    return Quota(name, used or 0, limit, *period, known=used is not None)


def day_of(now: datetime) -> tuple[int, int]:
    """The first second of the UTC day, and of the next."""
    first = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(first.timestamp()), int((first + timedelta(days=1)).timestamp())


def month_of(now: datetime) -> tuple[int, int]:
    """The first second of the UTC month, and of the next."""
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    return int(first.timestamp()), int(following.timestamp())


def _sums(keys: Sequence[int], period: tuple[int, int], columns: Sequence[str]) -> dict[int, int]:
    """By tenant; one for whom nothing was counted is absent."""
    rows = UsageHour.objects.filter(tenant__in=keys, period_start__gte=period[0], period_start__lt=period[1])
    totals = [Sum(name) for name in columns]
    found: dict[int, int] = {}
    for tenant, *values in rows.values("tenant_id").annotate(*totals).values_list("tenant_id", *_names(columns)):
        known = [value for value in values if value is not None]
        if known:
            found[tenant] = sum(known)
    return found


def of_fleet() -> dict[str, dict[str, int | None]]:
    """What all tenants together used ``today`` and ``this_month``, by measure; None where nothing was counted. Those
    that were deleted meanwhile used it all the same."""
    now = clock.now()
    return {"today": _of_all(day_of(now)), "this_month": _of_all(month_of(now))}


def _of_all(period: tuple[int, int]) -> dict[str, int | None]:
    # By tenant, in whose order the rows lie; who was gone before the period has none in it.
    begin = datetime.fromtimestamp(period[0], UTC)
    tenants = Tenant.objects.filter(Q(deleted_at__isnull=True) | Q(deleted_at__gte=begin)).values("pk")
    rows = UsageHour.objects.filter(tenant__in=tenants, period_start__gte=period[0], period_start__lt=period[1])
    found = rows.aggregate(*(Sum(name) for name in UsageHour.FIELDS))
    return {name: None if found[f"{name}__sum"] is None else int(found[f"{name}__sum"]) for name in UsageHour.FIELDS}


def _names(columns: Sequence[str]) -> list[str]:
    return [f"{name}__sum" for name in columns]  # as Django calls an aggregate that nobody named
