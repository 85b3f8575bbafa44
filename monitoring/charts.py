"""Time series as charts draw them: columns of at most 300 points at even distances, None where nothing is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.models import ResourceHour, ResourceSnapshot
from monitoring.series import DAY_S, HOUR_S
from tenants.models import Tenant
from tenants.records import UsageHour
from zcplatform.lib import clock


@dataclass(frozen=True)
class Span:
    """``seconds`` back from now in steps of ``step`` seconds; 300 steps at most."""

    seconds: int
    step: int


RESOURCES = {
    "1h": Span(HOUR_S, 60),
    "6h": Span(6 * HOUR_S, 120),
    "24h": Span(DAY_S, 300),
    "7d": Span(7 * DAY_S, HOUR_S),
}
USAGE = {"24h": Span(DAY_S, HOUR_S), "7d": Span(7 * DAY_S, HOUR_S), "30d": Span(30 * DAY_S, DAY_S)}

COLUMNS = ("cpu_pct", "cpu_limit_pct", "mem_bytes", "mem_limit", "disk_bytes", "net_in", "net_out", "pids")
RAW = ("cpu_mpct", *COLUMNS[1:])
HOURLY = ("cpu_mpct_avg", "cpu_limit_pct", "mem_bytes_avg", "mem_limit", "disk_bytes", "net_in", "net_out", "pids_max")
MEANS, SUMS = {"cpu_pct", "mem_bytes"}, {"net_in", "net_out"}

Row = Sequence[int | None]


def resources(tenant: Tenant, name: str) -> dict[str, Any]:
    """``name`` is a key of RESOURCES. CPU and memory are means over a step, the network its sum, the rest the
    highest. A week is drawn from the hours."""
    span = RESOURCES[name]
    hourly = span.step >= HOUR_S
    model, columns = (ResourceHour, HOURLY) if hourly else (ResourceSnapshot, RAW)
    ticks = _ticks(span)
    rows = model.objects.filter(tenant=tenant, ts__gte=ticks[0], ts__lt=ticks[-1] + span.step)
    found = _columns(ticks, span.step, rows.values_list("ts", *columns))
    found["cpu_pct"] = [None if value is None else value / 1_000 for value in found["cpu_pct"]]
    return {"range": name, "step_s": span.step, "ts": ticks, **found}


def usage(tenant: Tenant, name: str) -> dict[str, Any]:
    """``name`` is a key of USAGE. Sums over an hour or a UTC day."""
    span = USAGE[name]
    ticks = _ticks(span)
    rows = UsageHour.objects.filter(tenant=tenant, period_start__gte=ticks[0], period_start__lt=ticks[-1] + span.step)
    sums: dict[int, list[Row]] = defaultdict(list)
    for ts, *values in rows.values_list("period_start", *UsageHour.FIELDS):
        sums[ts - ts % span.step].append(values)
    columns = {field: [_sum(v[i] for v in sums[t]) for t in ticks] for i, field in enumerate(UsageHour.FIELDS)}
    return {"range": name, "step_s": span.step, "ts": ticks, **columns}


def _ticks(span: Span) -> list[int]:
    """Where the steps begin; the last one is under way."""
    now = int(clock.now().timestamp())
    last = now - now % span.step
    count = span.seconds // span.step
    return [last - span.step * back for back in reversed(range(count))]


def _columns(ticks: Sequence[int], step: int, rows: Iterable[Row]) -> dict[str, list[Any]]:
    steps: dict[int, list[Row]] = defaultdict(list)
    for ts, *values in rows:
        if ts is not None:
            steps[ts - ts % step].append(values)
    return {
        name: [_together(name, [v[i] for v in steps[tick] if v[i] is not None]) for tick in ticks]
        for i, name in enumerate(COLUMNS)
    }


def _together(name: str, values: list[Any]) -> int | None:
    if not values:
        return None
    if name in MEANS:
        return sum(values) // len(values)
    return sum(values) if name in SUMS else max(values)


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
