"""What needs somebody's attention, the worst first: each with its cause and the acts that mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.urls import reverse
from django.utils.translation import gettext as _

from backups import results
from monitoring.heartbeats import late
from monitoring.models import Heartbeat, QuotaMark
from tenants import words
from tenants.models import Tenant
from tenants.pages.bars import quota_label
from tenants.states import Health, Reason, Status
from zcplatform.lib import clock

LAST = 8
SILENT = timedelta(minutes=2)
PARTS = ("runs", "sweeps")


@dataclass(frozen=True)
class Matter:
    """``status`` picks the pill; ``links`` are label and address."""

    status: str
    name: str
    why: str
    url: str = ""
    links: list[tuple[str, str]] = field(default_factory=list)


def of_fleet() -> list[Matter]:
    rows = Tenant.objects.filter(status=Status.ERROR).order_by("-updated_at")[:LAST]
    failing = Tenant.objects.filter(status=Status.RUNNING, health=Health.FAILING).order_by("-updated_at")[:LAST]
    return [*of_platform(), *_of_rows([*rows, *failing]), *_ownerless(), *_quotas(None)][: LAST + 4]


def of_tenants(tenants: list[Tenant]) -> list[Matter]:
    """The same for the tenants of somebody's own."""
    bad = [t for t in tenants if t.status == Status.ERROR or t.health == Health.FAILING]
    return [*_of_rows(bad), *_quotas([tenant.pk for tenant in tenants])]


def of_platform() -> list[Matter]:
    """What is wrong with the platform itself."""
    return [*_silent(), *_guards()]


def _of_rows(tenants: Iterable[Tenant]) -> list[Matter]:
    return [
        Matter(t.seen_as, t.slug, words.reason(t) or words.headline(t), _page(t, "overview"), _ways(t)) for t in tenants
    ]


def _ownerless() -> list[Matter]:
    """Tenants that had an owner and have none: nobody can hand them over, delete them or answer for them."""
    rows = Tenant.objects.ownerless().order_by("slug")[:LAST]
    why, invite = _("ownerless: invite an owner"), _("Members")
    return [Matter("warn", t.slug, why, _page(t, "members"), [(invite, _page(t, "members"))]) for t in rows]


def _ways(tenant: Tenant) -> list[tuple[str, str]]:
    """The act that the reason asks for, and the logs."""
    first = {
        Reason.OOM_KILLED: (_("Resize"), "resize"),
        Reason.PLAN_TOO_SMALL: (_("Resize"), "resize"),
        Reason.BAD_CONFIG: (_("Configuration"), ""),
    }.get(Reason(tenant.reason))
    if first is None:
        return [(_("Logs"), _page(tenant, "logs"))]
    way = _page(tenant, "act", first[1]) if first[1] else _page(tenant, "configuration")
    return [(first[0], way), (_("Logs"), _page(tenant, "logs"))]


def _page(tenant: Tenant, name: str, *args: str) -> str:
    return reverse(f"tenant_{name}", args=[tenant.slug, *args])


def _quotas(tenants: list[int] | None) -> list[Matter]:
    marks = QuotaMark.objects.select_related("tenant").filter(mark__gte=90).exclude(tenant__status=Status.DELETED)
    if tenants is not None:
        marks = marks.filter(tenant__in=tenants)
    now = int(clock.now().timestamp())
    text = _("%(quota)s: %(mark)s %% of the plan are used")
    return [
        Matter("warn", m.tenant.slug, text % {"quota": quota_label(m.quota), "mark": m.mark}, _page(m.tenant, "usage"))
        for m in marks.order_by("-mark", "-period")[:LAST]
        if now - m.period < (86_400 if m.quota == "messages" else 31 * 86_400)
    ]


def _silent() -> list[Matter]:
    beats = dict(Heartbeat.objects.values_list("name", "beat_at"))
    health = reverse("admin:platform_health")
    return [
        Matter("error", _("worker “%(name)s”") % {"name": name}, _last(beats.get(name)), health)
        for name in PARTS
        if name not in beats or clock.now() - beats[name] > SILENT
    ] + [
        Matter("error", _("task “%(name)s”") % {"name": name}, _("has begun and does not end"), health)
        for name in late()
    ]


def _last(moment: datetime | None) -> str:
    return _("last sign of life %(ago)s") % {"ago": words.ago(moment)} if moment else _("never seen")


def _guards() -> list[Matter]:
    """Backup and restore drill, where they are behind."""
    health = reverse("admin:platform_health")
    return [Matter("error", guard.label, guard.fault, health) for guard in results.guards() if guard.fault]
