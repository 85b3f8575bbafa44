"""Writing and thinning out the time series. Plain statements: a row costs a sixth of what it costs through a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction

from monitoring.models import HostSnapshot, ResourceHour, ResourceSnapshot
from tenants.records import UsageHour

HOUR_S, DAY_S = 3_600, 86_400
RAW_DAYS, HOURS_DAYS = 7, 366
BATCH = 500  # of rows or keys in one statement: M8

INSERT_SNAPSHOT = """INSERT INTO resource_snapshots
(tenant_id, ts, cpu_mpct, cpu_limit_pct, mem_bytes, mem_limit, disk_bytes, net_in, net_out, pids)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, ts) DO NOTHING"""

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
    """Delete what is older than a week (snapshots), a year (hours) or ``usage_days``; returns how many rows."""
    gone = 0
    for model, column, keep in (
        (ResourceSnapshot, "ts", RAW_DAYS),
        (ResourceHour, "ts", HOURS_DAYS),
        (UsageHour, "period_start", usage_days),
    ):
        gone += sum(_prune(model, column, tenant, now - keep * DAY_S) for tenant in _tenants(model))
    return gone + HostSnapshot.objects.filter(ts__lt=now - RAW_DAYS * DAY_S).delete()[0]


def _tenants(model: Any) -> list[int]:
    """Whose rows there are, by a seek for each instead of a walk over all."""
    found: list[int] = []
    last = 0
    while row := model.objects.filter(tenant_id__gt=last).order_by("tenant_id").values_list("tenant_id").first():
        last = row[0]
        found.append(last)
    return found


def _prune(model: Any, column: str, tenant: int, before: int) -> int:
    """In steps of at most 500 rows, so that no other writer waits for long."""
    gone = 0
    rows = model.objects.filter(**{"tenant_id": tenant, f"{column}__lt": before}).order_by(column)
    while keys := list(rows.values_list(column, flat=True)[:BATCH]):
        old = model.objects.filter(**{"tenant_id": tenant, f"{column}__lte": keys[-1], f"{column}__lt": before})
        gone += old._raw_delete(old.db)
    return gone
