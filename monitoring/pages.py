"""A tenant's usage and resources: bars against the plan, charts, and the same numbers as tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from monitoring import charts, queries
from tenants.models import Tenant
from tenants.pages.bars import Bar, bar, quota_label, short, size
from tenants.pages.frame import Viewer, show, tenant_page

RANGES = ("1h", "24h", "7d")
LAST_ROWS = 24
MB = 2**20

Told = Callable[[float], str]


@tenant_page("metrics.view")
def usage_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """One hour, a day or a week; what was not measured is a gap."""
    name = request.GET.get("range", "24h")
    name = name if name in RANGES else "24h"
    resources = charts.resources(tenant, name)
    usage = charts.usage(tenant, name if name in charts.USAGE else "24h")
    drawn = [*_resource_charts(resources), *_usage_charts(usage)]
    context = {"ranges": RANGES, "range": name, "bars": bars(tenant), "charts": drawn}
    return show(request, "usage.html", tenant, viewer, "usage", **context)


def bars(tenant: Tenant) -> list[Bar]:
    """The quotas, and memory as it is now."""
    found = [_quota_bar(row) for row in queries.quota_rows([tenant])[tenant.pk]]
    sample = queries.now_of(tenant)["resources"] or {}
    used, limit = sample.get("mem_bytes"), tenant.plan.memory_limit_mb * MB
    percent = None if used is None else round(used * 100 / limit)
    return [*found, Bar(_("Memory"), "" if used is None else size(used), size(limit), percent)]


def _quota_bar(row: dict[str, Any]) -> Bar:
    label = quota_label(row["name"])
    if row["name"] != "disk":
        return bar(label, row["used"], row["limit"])
    percent = None if row["used"] is None else round(row["used"] * 100 / row["limit"])
    return Bar(label, "" if row["used"] is None else size(row["used"]), size(row["limit"]), percent)


def _resource_charts(found: dict[str, Any]) -> list[dict[str, Any]]:
    network = _("Network, per step")
    return [
        _chart("cpu", _("CPU, percent of one core"), found, {"cpu_pct": _("used"), "cpu_limit_pct": _("limit")}, _pct),
        _chart("memory", _("Memory"), found, {"mem_bytes": _("used"), "mem_limit": _("limit")}, size),
        _chart("disk", _("Disk"), found, {"disk_bytes": _("used")}, size),
        _chart("network", network, found, {"net_in": _("in"), "net_out": _("out")}, size),
    ]


def _usage_charts(found: dict[str, Any]) -> list[dict[str, Any]]:
    messages = {"messages_in": _("in"), "messages_out": _("out")}
    tokens = {"tokens_in": _("in"), "tokens_out": _("out")}
    return [
        _chart("messages", _("Messages, per hour"), found, messages, short),
        _chart("tokens", _("Tokens, per hour"), found, tokens, short),
    ]


def _pct(value: float) -> str:
    return f"{value:.1f} %"


def _chart(key: str, title: str, found: dict[str, Any], names: dict[str, str], told: Told) -> dict[str, Any]:
    """What a chart and its table need. ``known`` is False when there is not one value to draw."""
    series = [{"label": label, "values": found[name]} for name, label in names.items()]
    known = any(value is not None for line in series for value in line["values"])
    return {
        "key": key,
        "data_id": f"d-{key}",
        "title": title,
        "known": known,
        "labels": list(names.values()),
        "rows": _rows(found, list(names), told),
        "data": {"ts": found["ts"], "series": series, "unit": _UNITS.get(told, "number"), "title": title},
    }


_UNITS: dict[Told, str] = {size: "bytes", _pct: "percent", short: "number"}


def _rows(found: dict[str, Any], names: list[str], told: Told) -> list[tuple[datetime, list[str]]]:
    """The last measured steps, the newest first, as a table tells them."""
    rows = []
    for at in reversed(range(len(found["ts"]))):
        values = [found[name][at] for name in names]
        if any(value is not None for value in values):
            cells = ["–" if value is None else told(value) for value in values]
            rows.append((datetime.fromtimestamp(found["ts"][at], UTC), cells))
        if len(rows) == LAST_ROWS:
            break
    return rows
