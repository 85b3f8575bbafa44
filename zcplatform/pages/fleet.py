"""Figures of the whole fleet, each by a query that does not grow with what is not shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Max, Q, Sum
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from monitoring.alerting.machine import State
from monitoring.alerting.models import Alert
from monitoring.models import HostSnapshot
from tenants import quotas
from tenants.models import Node, Tenant
from tenants.pages.bars import Bar, bar, short, size
from tenants.records import UsageHour
from tenants.states import Status
from zcplatform.lib import clock

PACE_DAYS, FAR_DAYS = 30, 730
SPENDERS, ALERTS = 6, 8
MB = 2**20
FRESH_S = 600
"""A host snapshot older than this says nothing of now."""


@dataclass(frozen=True)
class Capacity:
    """``forecast`` is a sentence, or empty where there is nothing to tell it from."""

    bars: list[Bar]
    forecast: str


@dataclass(frozen=True)
class Spender:
    tenant: Tenant
    tokens: str
    width: int


def counts() -> list[tuple[str, int]]:
    """How many tenants have each status; those that nobody has are left out but for running and error."""
    found = dict(Tenant.objects.alive().order_by().values_list("status").annotate(Count("pk")))
    kept = (Status.RUNNING, Status.DEPLOYING, Status.STOPPED, Status.SUSPENDED, Status.ERROR)
    rows = [(status.value, found.get(status, 0)) for status in kept]
    return rows + [(status.value, found[status]) for status in Status if status in found and status not in kept]


def capacity() -> Capacity:
    """Slots of the active nodes, memory and disk of the host, and when the first of them runs out."""
    slots = _slots()
    bars = [bar(_("Slots"), slots[0], slots[1])]
    host = HostSnapshot.objects.newest()
    if host and clock.now().timestamp() - host.ts < FRESH_S:
        bars.append(_measured(_("Memory"), host.mem_bytes, host.mem_total))
        bars.append(_measured(_("Disk"), host.disk_bytes, host.disk_total))
    else:
        bars += [Bar(_("Memory"), "", "", None), Bar(_("Disk"), "", "", None)]
    return Capacity(bars, forecast(*slots, _promised(), host.mem_total if host else 0))


def _slots() -> tuple[int, int]:
    """Held and in all, of the active nodes."""
    nodes = Node.objects.filter(state=Node.State.ACTIVE).annotate(
        held=Count("tenants", filter=Q(tenants__slot__isnull=False))
    )
    rows = [(node.held, node.capacity) for node in nodes]
    return sum(held for held, _all in rows), sum(whole for _held, whole in rows)


def _measured(label: str, used: int, whole: int) -> Bar:
    return Bar(label, size(used), size(whole), round(used * 100 / whole) if whole else None)


def _promised() -> int:
    """Bytes of memory that the plans of all slot holders add up to."""
    held = Tenant.objects.filter(slot__isnull=False).aggregate(mb=Sum("plan__memory_limit_mb"))["mb"]
    return (held or 0) * MB


def forecast(held: int, slots: int, promised: int, memory: int) -> str:
    """When slots or the plans' memory run out, at the pace of the last thirty days."""
    since = clock.now() - timedelta(days=PACE_DAYS)
    made = Tenant.objects.filter(created_at__gte=since, slot__isnull=False).aggregate(
        count=Count("pk"), mb=Sum("plan__memory_limit_mb")
    )
    if memory and promised > memory:
        return _("The plans promise %(promised)s of memory; the host has %(memory)s.") % {
            "promised": size(promised),
            "memory": size(memory),
        }
    days = [
        room / (pace / PACE_DAYS)
        for room, pace in ((slots - held, made["count"] or 0), (memory - promised, (made["mb"] or 0) * MB))
        if pace and room >= 0
    ]
    if not days:
        return _("No tenant was added in the last 30 days.")
    if min(days) > FAR_DAYS:
        return _("Room for more than two years, at the pace of the last 30 days.")
    return _("Full in about %(time)s, at the pace of the last 30 days.") % {"time": _roughly(min(days))}


def _roughly(days: float) -> str:
    if days < 14:
        number = max(1, round(days))
        return ngettext("%(number)s day", "%(number)s days", number) % {"number": number}
    return _("%(number)s weeks") % {"number": round(days / 7)}


def spenders_today() -> list[Spender]:
    """Who used most tokens since midnight UTC, with a bar against the first of them."""
    start, _end = quotas.day_of(clock.now().astimezone(UTC))
    running = Tenant.objects.alive().values("pk")
    rows = (
        UsageHour.objects.filter(tenant__in=running, period_start__gte=start)
        .order_by()
        .values("tenant_id")
        .annotate(spent_in=Sum("tokens_in"), spent_out=Sum("tokens_out"))
    )
    spent = {row["tenant_id"]: (row["spent_in"] or 0) + (row["spent_out"] or 0) for row in rows}
    best = sorted(((tokens, pk) for pk, tokens in spent.items() if tokens), reverse=True)[:SPENDERS]
    tenants = Tenant.objects.in_bulk([pk for _tokens, pk in best])
    most = best[0][0] if best else 1
    return [Spender(tenants[pk], short(tokens), max(1, round(tokens * 100 / most))) for tokens, pk in best]


def firing() -> list[Alert]:
    """The alerts that fire now, of the platform and of every tenant: the critical first, then the newest."""
    rows = Alert.objects.filter(state=State.FIRING).exclude(tenant__status=Status.DELETED).select_related("tenant")
    return list(rows.order_by("severity", "-pk")[: ALERTS + 1])


def last_messages(tenants: list[Tenant]) -> dict[int, datetime]:
    """The hour in which each tenant's agent last took in a message, as far as it counts."""
    rows = UsageHour.objects.filter(tenant__in=[tenant.pk for tenant in tenants], messages_in__gt=0)
    found = rows.order_by().values_list("tenant_id").annotate(Max("period_start"))
    return {pk: datetime.fromtimestamp(start, UTC) for pk, start in found}
