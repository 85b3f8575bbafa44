"""How reliably a tenant's agent was there: of the time in which it was meant to run and not held, the share in which
it ran and answered.

Computed from the outbox, where every change of ``desired``, ``status`` and ``health`` is told with what was before:

- **due**: ``desired`` is ``running``. A hold makes it ``suspended``, so time on hold does not count, nor does time in
  which somebody had stopped the tenant.
- **up**: due, ``status`` is ``running`` and ``health`` is ``ok``. A deploy, a restart, an error and failing probes are
  downtime.
- Time in which it ran with health ``unknown`` (the engine did not answer) counts neither way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tenants.models import Event, Tenant
from tenants.states import Desired, Health, Status
from zcplatform.lib import clock

SPANS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
COLUMNS = ("desired", "status", "health")

Change = tuple[datetime, str, str, str]
"""When, which column, its value before and after."""


@dataclass(frozen=True)
class Uptime:
    """In seconds. ``share`` is None when the tenant was not due at all."""

    due_s: float
    up_s: float

    @property
    def share(self) -> float | None:
        return self.up_s / self.due_s if self.due_s else None


def of(tenant: Tenant) -> dict[str, Uptime]:
    """Of the last 24 hours, 7 and 30 days, or since the tenant was made."""
    now = clock.now()
    begin = max(now - max(SPANS.values()), tenant.created_at)
    types = [f"tenant.{name}" for name in COLUMNS]
    rows = Event.objects.filter(tenant=tenant, type__in=types, created_at__gt=begin).order_by("pk")
    changes = [
        (at, type.removeprefix("tenant."), str(data["from"]), str(data["to"]))
        for at, type, data in rows.values_list("created_at", "type", "data")
    ]
    state = {name: str(getattr(tenant, name)) for name in COLUMNS}
    return {name: within(changes, state, max(now - span, tenant.created_at), now) for name, span in SPANS.items()}


def within(changes: list[Change], state: dict[str, str], begin: datetime, end: datetime) -> Uptime:
    """Between two moments, from the changes in their order and what holds now (``state``)."""
    due = up = 0.0
    for seconds, then in _stretches(changes, state, begin, end):
        if then["desired"] != Desired.RUNNING or _is_unknown(then):
            continue
        due += seconds
        up += seconds if then["status"] == Status.RUNNING and then["health"] == Health.OK else 0
    return Uptime(due, up)


def _is_unknown(then: dict[str, str]) -> bool:
    return then["status"] == Status.RUNNING and then["health"] == Health.UNKNOWN


def _stretches(
    changes: Iterable[Change], state: dict[str, str], begin: datetime, end: datetime
) -> Iterator[tuple[float, dict[str, str]]]:
    """Each stretch without a change: how long it was, and what held. A clock that was put back makes none negative."""
    ordered = list(changes)
    # What held at first: of each column, what stood there before its first change.
    then = state | {column: was for _, column, was, _ in reversed(ordered)}
    at = begin
    for when, column, _, to in ordered:
        until = min(max(when, at), end)
        yield (until - at).total_seconds(), dict(then)
        at, then[column] = until, to
    yield (end - at).total_seconds(), then
