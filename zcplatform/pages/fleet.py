"""Figures of the whole fleet, each by a query that does not grow with what is not shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Max, Min, Q, Sum
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from monitoring.alerting.machine import State
from monitoring.alerting.models import Alert
from monitoring.models import HostSnapshot
from tenants import quotas
from tenants.models import Node, Tenant
from tenants.pages.bars import Bar, bar, short, size
from tenants.records import UsageHour
from tenants.states import SILENT, Status
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
    found = Counter[str]()
    for status, health, count in (
        Tenant.objects.alive().order_by().values_list("status", "health").annotate(Count("pk"))
    ):
        found[Tenant(status=status, health=health).seen_as] += count
    kept = (Status.RUNNING, Status.DEPLOYING, Status.STOPPED, Status.SUSPENDED, Status.ERROR)
    rows = [(status.value, found[status]) for status in kept]
    others = [SILENT, *(status for status in Status if status not in kept)]
    return rows + [(str(status), found[status]) for status in others if found[status]]


def capacity() -> Capacity:
    """Slots of the active nodes, memory and disk of the host, and when the first of them runs out."""
    slots = _slots()
    promised = _promised()
    bars = [bar(_("Slots"), slots[0], slots[1])]
    host = HostSnapshot.objects.newest()
    if host and clock.now().timestamp() - host.ts < FRESH_S:
        bars.append(_measured(_("Memory promised"), promised, host.mem_total))
        bars.append(_measured(_("Memory in use"), host.mem_bytes, host.mem_total))
        bars.append(_measured(_("Disk"), host.disk_bytes, host.disk_total))
    else:
        bars += [Bar(label, "", "", None) for label in (_("Memory promised"), _("Memory in use"), _("Disk"))]
    return Capacity(bars, forecast(*slots, promised, host.mem_total if host else 0))


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
    """When slots or the memory that plans promise run out, at the pace of up to thirty days; empty before a day of
    tenants is there to tell it from."""
    days = _days_known()
    if memory and promised > memory:
        return _("The plans promise %(promised)s of memory; the host has %(memory)s.") % {
            "promised": size(promised),
            "memory": size(memory),
        }
    if days < 1:
        return ""
    since = clock.now() - timedelta(days=PACE_DAYS)
    made = Tenant.objects.filter(created_at__gte=since, slot__isnull=False).aggregate(
        count=Count("pk"), mb=Sum("plan__memory_limit_mb")
    )
    slots_text = _("Slots are full in about %(time)s, at the pace of the last %(days)s d.")
    memory_text = _("All memory is promised in about %(time)s, at the pace of the last %(days)s d.")
    full = sorted(
        (room / (pace / days), text)
        for room, pace, text in (
            (slots - held, made["count"] or 0, slots_text),
            (memory - promised, (made["mb"] or 0) * MB, memory_text),
        )
        if pace and room >= 0
    )
    if not full:
        return _("No tenant was added in the last %(days)s d.") % {"days": days}
    if full[0][0] > FAR_DAYS:
        return _("Room for more than two years, at the pace of the last %(days)s d.") % {"days": days}
    return full[0][1] % {"time": _roughly(full[0][0]), "days": days}


def _days_known() -> int:
    """Whole days since the first tenant was made, 30 at most."""
    first = Tenant.objects.aggregate(at=Min("created_at"))["at"]
    return min(PACE_DAYS, (clock.now() - first).days) if first else 0


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
