"""Writing and thinning out the time series. Plain statements: a row costs a sixth of what it costs through a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import OuterRef, Subquery

from monitoring.models import HostSnapshot, ResourceHour, ResourceSnapshot
from tenants.models import Tenant
from tenants.records import UsageHour

HOUR_S, DAY_S = 3_600, 86_400
RAW_DAYS, HOURS_DAYS = 7, 366
BATCH = 500  # of rows or keys in one statement: M8

# A second row of the same second (a clock that was put back, a turn done twice) adds what moved since the first.
INSERT_SNAPSHOT = """INSERT INTO resource_snapshots
(tenant_id, ts, cpu_mpct, cpu_limit_pct, mem_bytes, mem_limit, disk_bytes, net_in, net_out, pids)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, ts) DO UPDATE SET
cpu_mpct = COALESCE(excluded.cpu_mpct, resource_snapshots.cpu_mpct), cpu_limit_pct = excluded.cpu_limit_pct,
mem_bytes = excluded.mem_bytes, mem_limit = excluded.mem_limit, disk_bytes = excluded.disk_bytes, pids = excluded.pids,
net_in = CASE WHEN excluded.net_in IS NULL THEN resource_snapshots.net_in
ELSE COALESCE(resource_snapshots.net_in, 0) + excluded.net_in END,
net_out = CASE WHEN excluded.net_out IS NULL THEN resource_snapshots.net_out
ELSE COALESCE(resource_snapshots.net_out, 0) + excluded.net_out END"""

UPSERT_COUNTER = """INSERT INTO resource_counters (tenant_id, life, read_us, cpu_us, net_in, net_out)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id) DO UPDATE SET life = excluded.life,
read_us = excluded.read_us, cpu_us = excluded.cpu_us, net_in = excluded.net_in, net_out = excluded.net_out"""

ROLL_UP = """INSERT INTO resource_hours
(tenant_id, ts, samples, cpu_mpct_avg, cpu_mpct_max, cpu_limit_pct, mem_bytes_avg, mem_bytes_max, mem_limit,
disk_bytes, net_in, net_out, pids_max)
SELECT tenant_id, %s, COUNT(*), CAST(AVG(cpu_mpct) AS bigint), MAX(cpu_mpct), MAX(cpu_limit_pct),
CAST(AVG(mem_bytes) AS bigint), MAX(mem_bytes), MAX(mem_limit), MAX(disk_bytes),
CAST(SUM(net_in) AS bigint), CAST(SUM(net_out) AS bigint), MAX(pids)
FROM resource_snapshots WHERE tenant_id = %s AND ts >= %s AND ts < %s GROUP BY tenant_id
ON CONFLICT (tenant_id, ts) DO UPDATE SET samples = excluded.samples, cpu_mpct_avg = excluded.cpu_mpct_avg,
cpu_mpct_max = excluded.cpu_mpct_max, cpu_limit_pct = excluded.cpu_limit_pct,
mem_bytes_avg = excluded.mem_bytes_avg, mem_bytes_max = excluded.mem_bytes_max, mem_limit = excluded.mem_limit,
disk_bytes = excluded.disk_bytes, net_in = excluded.net_in, net_out = excluded.net_out,
pids_max = excluded.pids_max"""


@dataclass(frozen=True)
class Old:
    """A series, its column of time, and the statement that deletes a tenant's oldest rows: those before a moment,
    so many at most. By the model each step costs five times as much, most of it to write the statement."""

    model: Any
    column: str
    delete: str


OLD = (
    Old(
        ResourceSnapshot,
        "ts",
        """DELETE FROM resource_snapshots WHERE tenant_id = %s AND ts <= (SELECT MAX(o.ts) FROM (
SELECT ts FROM resource_snapshots WHERE tenant_id = %s AND ts < %s ORDER BY ts LIMIT %s) o)""",
    ),
    Old(
        ResourceHour,
        "ts",
        """DELETE FROM resource_hours WHERE tenant_id = %s AND ts <= (SELECT MAX(o.ts) FROM (
SELECT ts FROM resource_hours WHERE tenant_id = %s AND ts < %s ORDER BY ts LIMIT %s) o)""",
    ),
    Old(
        UsageHour,
        "period_start",
        """DELETE FROM usage_metrics WHERE tenant_id = %s AND period_start <= (SELECT MAX(o.period_start) FROM (
SELECT period_start FROM usage_metrics WHERE tenant_id = %s AND period_start < %s
ORDER BY period_start LIMIT %s) o)""",
    ),
)


def hour_of(ts: int) -> int:
    """The first second of the hour."""
    return ts - ts % HOUR_S


def insert(statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """The same statement for each row."""
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)


def roll_up(hour: int, tenants: Sequence[int]) -> None:
    """Sum up one hour of each tenant, in batches of transactions; done again, it gives the same rows."""
    for start in range(0, len(tenants), BATCH):
        batch = tenants[start : start + BATCH]
        with transaction.atomic():
            insert(ROLL_UP, [(hour, tenant, hour, hour + HOUR_S) for tenant in batch])


def prune(now: int, *, usage_days: int) -> int:
    """Delete what is older than a week (snapshots), a year (hours) or ``usage_days``; returns how many rows.

    Of each tenant a day and a tenth of what is kept goes at most, the oldest first: a clock that is a year ahead for a
    moment takes no more than that, and after a long pause the next turns do the rest.
    """
    days = (RAW_DAYS, HOURS_DAYS, usage_days)
    gone = sum(_prune(old, now, keep * DAY_S) for old, keep in zip(OLD, days, strict=True))
    return gone + _prune_host(now, RAW_DAYS * DAY_S)


def _edge(oldest: int, now: int, keep_s: int) -> int:
    """Before when to delete in this turn."""
    return min(now - keep_s, oldest + DAY_S + keep_s // 10)


def _prune_host(now: int, keep_s: int) -> int:
    oldest = HostSnapshot.objects.order_by("ts").values_list("ts", flat=True).first()
    return 0 if oldest is None else HostSnapshot.objects.filter(ts__lt=_edge(oldest, now, keep_s)).delete()[0]


def _prune(old: Old, now: int, keep_s: int) -> int:
    """Tenant after tenant, in whose order the rows lie, so that a step touches neighbouring pages only."""
    rows = old.model.objects.filter(tenant=OuterRef("pk")).order_by(old.column).values(old.column)[:1]
    # A seek for each tenant, and without the lock that a step takes.
    tenants = Tenant.objects.annotate(oldest=Subquery(rows)).filter(oldest__lt=now - keep_s).order_by("pk")
    due = [(pk, _edge(oldest, now, keep_s)) for pk, oldest in tenants.values_list("pk", "oldest")]
    with connection.cursor() as cursor:
        return sum(_steps(cursor, old.delete, tenant, before) for tenant, before in due)


def _steps(cursor: Any, delete: str, tenant: int, before: int) -> int:
    """Each step is a transaction of its own, and a short one: no other writer waits for long."""
    gone, step = 0, BATCH
    while step == BATCH:
        cursor.execute(delete, [tenant, tenant, before, BATCH])
        step = cursor.rowcount
        gone += step
    return gone
