"""What the API and the pages show of the fleet and of one tenant. Reads only; whoever asks has checked the ability."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Count, F, Q

from accounts.models import User
from monitoring import quota_marks
from monitoring.models import HealthState, HostSnapshot, ResourceCounter, ResourceSnapshot, Sweep, UsageCounter
from tenants import quotas
from tenants.models import Channel, Hold, Node, Run, Tenant
from tenants.quotas import Quota
from tenants.states import ACTIVE_RUN, Health, Status
from zcplatform.lib import clock

FRESH_S = 180
"""A snapshot older than this says nothing of now."""

# A seek for each tenant: asked for as "the newest of each", the database would walk over all of a week's rows. Rows of
# a time to come were written while the clock was ahead.
SNAPSHOT = (
    *("tenant_id", "ts", "cpu_mpct", "cpu_limit_pct", "mem_bytes"),
    *("mem_limit", "disk_bytes", "net_in", "net_out", "pids"),
)
LATEST = """SELECT s.tenant_id, s.ts, s.cpu_mpct, s.cpu_limit_pct, s.mem_bytes, s.mem_limit, s.disk_bytes, s.net_in,
s.net_out, s.pids FROM tenants t JOIN resource_snapshots s ON s.tenant_id = t.id
AND s.ts = (SELECT MAX(n.ts) FROM resource_snapshots n WHERE n.tenant_id = t.id AND n.ts <= %s)
WHERE t.status <> 'deleted' AND s.ts >= %s"""


def dashboard() -> dict[str, Any]:
    """The fleet in figures: tenants by status and health, people, channels, capacity, runs, the host, the sweeps."""
    alive = Tenant.objects.alive()
    statuses = {str(status): 0 for status in Status if status != Status.DELETED}
    statuses |= dict(alive.values_list("status").annotate(Count("pk")))
    healths = {str(health): 0 for health in Health}
    healths |= dict(alive.filter(status=Status.RUNNING).values_list("health").annotate(Count("pk")))
    return {
        "tenants": {"total": sum(statuses.values()), **statuses},
        "health": healths,
        "users": User.objects.filter(is_active=True).count(),
        "channels": Channel.objects.filter(tenant__in=alive).count(),
        "held": Hold.objects.filter(lifted_at__isnull=True, tenant__in=alive).values("tenant").distinct().count(),
        "runs_active": Run.objects.filter(status__in=ACTIVE_RUN).count(),
        "nodes": [_capacity(node) for node in _nodes()],
        "usage": quotas.of_fleet(),
        "host": host(),
        "sweeps": list(Sweep.objects.order_by("name").values(*SWEEP_FIELDS)),
    }


SWEEP_FIELDS = ("name", "started_at", "finished_at", "duration_ms", "lag_ms", "items", "failures", "overruns")


def _nodes() -> Iterable[Any]:
    used = Count("tenants", filter=Q(tenants__slot__isnull=False))
    return Node.objects.annotate(used=used).order_by("name")


def _capacity(node: Any) -> dict[str, Any]:
    facts = {"name": node.name, "runtime": node.runtime, "state": node.state}
    return {**facts, "slots": node.capacity, "slots_used": node.used, "slots_free": max(0, node.capacity - node.used)}


def host() -> dict[str, Any] | None:
    """The newest look at the host; None when there is none of the last minutes."""
    row = HostSnapshot.objects.newest()
    if row is None or row.ts < _now() - FRESH_S:
        return None
    return {
        "at": row.ts,
        "cpu_pct": _pct(row.cpu_mpct),
        "mem_bytes": row.mem_bytes,
        "mem_total": row.mem_total,
        "disk_bytes": row.disk_bytes,
        "disk_total": row.disk_total,
        "disk_pct": round(100 * row.disk_bytes / row.disk_total, 1),
    }


def fleet_health() -> list[dict[str, Any]]:
    """Every tenant's status and health, with its uptime in seconds; in the order of the slugs."""
    columns = ("public_id", "slug", "status", "health", "reason", "detail", "desired", "health_at", "running_since")
    now = clock.now()
    rows = Tenant.objects.alive().order_by("slug").values(*columns, strikes=F("health_state__strikes"))
    return [_health(row, now) for row in rows]


def _health(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    kept = ("slug", "status", "health", "reason", "detail", "desired")
    return {
        "id": row["public_id"],
        **{name: row[name] for name in kept},
        "strikes": row["strikes"] or 0,
        "health_since": row["health_at"],
        "uptime_s": uptime_s(row["running_since"], row["status"], now),
    }


def uptime_s(since: datetime | None, status: str, now: datetime) -> int | None:
    """Seconds that a running tenant has been up without a restart of ours; None when it is not."""
    return max(0, int((now - since).total_seconds())) if since and status == Status.RUNNING else None


def latest() -> dict[int, dict[str, Any]]:
    """The newest snapshot of everybody who has a fresh one, by the tenant's primary key."""
    with connection.cursor() as cursor:
        cursor.execute(LATEST, [_now(), _now() - FRESH_S])
        rows = [ResourceSnapshot(**dict(zip(SNAPSHOT, row, strict=True))) for row in cursor.fetchall()]
    return {row.tenant_id: snapshot(row) for row in rows}


def snapshot(row: ResourceSnapshot) -> dict[str, Any]:
    """A snapshot under the names of document 004. ``cpu_pct`` is of one core, ``cpu_limit_pct`` what the plan gives
    in the same measure; ``net_in`` and ``net_out`` are bytes since the sample before."""
    plain = ("cpu_limit_pct", "mem_bytes", "mem_limit", "disk_bytes", "net_in", "net_out", "pids")
    return {"at": row.ts, "cpu_pct": _pct(row.cpu_mpct), **{name: getattr(row, name) for name in plain}}


def totals(current: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What all of them use together; what is not known of one is left out of the sum."""
    rows = list(current)
    names = ("cpu_pct", "mem_bytes", "disk_bytes", "net_in", "net_out", "pids")
    sums = {name: sum(row[name] or 0 for row in rows) for name in names}
    return {"tenants": len(rows), **sums, "cpu_pct": round(sums["cpu_pct"], 3)}


def quota_rows(tenants: Sequence[Tenant]) -> dict[int, list[dict[str, Any]]]:
    """Messages, tokens and disk of each tenant against its plan, by primary key. The plans must be at hand."""
    counters = ResourceCounter.objects.filter(tenant__in=tenants).values_list("tenant_id", "disk_bytes")
    disks = dict(counters)
    found = quotas.of_many(tenants)
    return {t.pk: [_quota(quota) for quota in (*found[t.pk], _disk(t, disks.get(t.pk)))] for t in tenants}


def _disk(tenant: Tenant, used: int | None) -> Quota:
    quota = quota_marks.disk_quota(tenant, used or 0)
    return Quota(quota.name, quota.used, quota.limit, 0, 0, known=used is not None)


def _quota(quota: Quota) -> dict[str, Any]:
    return {
        "name": quota.name,
        "used": quota.used if quota.known else None,
        "limit": quota.limit,
        "share": round(quota.share, 4) if quota.known else None,
        "resets_at": quota.resets_at or None,
    }


def now_of(tenant: Tenant) -> dict[str, Any]:
    """What is known of one tenant at this moment."""
    fresh = ResourceSnapshot.objects.filter(tenant=tenant, ts__range=(_now() - FRESH_S, _now()))
    row = fresh.order_by("-ts").first()
    state = HealthState.objects.filter(tenant=tenant).first()
    counted = UsageCounter.objects.filter(tenant=tenant).first()
    names = ("messages_in", "messages_out", "tokens_in", "tokens_out")
    return {
        "status": tenant.status,
        "health": tenant.health,
        "reason": tenant.reason,
        "detail": tenant.detail,
        "health_since": tenant.health_at,
        "strikes": state.strikes if state else 0,
        "uptime_s": uptime_s(tenant.running_since, tenant.status, clock.now()),
        "resources": snapshot(row) if row else None,
        "counters": {name: getattr(counted, name) for name in names} if counted else None,
        "counted_at": counted.scraped_at if counted else None,
    }


def _pct(thousandths: int | None) -> float | None:
    return None if thousandths is None else thousandths / 1_000


def _now() -> int:
    return int(clock.now().timestamp())
