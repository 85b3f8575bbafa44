"""Adding to what a tenant used in an hour. Only ever added to: whoever counts gives what came since it last did.

A message that passes one of the platform's own doors is counted there (``add_passed``), whatever becomes of the agent
afterwards. An agent that counts for itself counts it too; the sweep adds what it tells beyond that, and is asked once
more before each stop (``settle``), since its counters end with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from django.db import connection, transaction

from tenants.models import Tenant
from tenants.records import UsageHour, UsageSource
from zcplatform.lib import clock
from zcplatform.lib.contained import contained

HOUR_S = 3_600
BEFORE_STOP: list[Callable[[Tenant], None]] = []
"""Who wants to ask an agent something before it is stopped, within seconds. Filled by apps to the right of this one."""

ADD = """INSERT INTO usage_metrics (tenant_id, period_start, messages_in, messages_out, tokens_in, tokens_out)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, period_start) DO UPDATE SET
messages_in = CASE WHEN excluded.messages_in IS NULL THEN usage_metrics.messages_in
ELSE COALESCE(usage_metrics.messages_in, 0) + excluded.messages_in END,
messages_out = CASE WHEN excluded.messages_out IS NULL THEN usage_metrics.messages_out
ELSE COALESCE(usage_metrics.messages_out, 0) + excluded.messages_out END,
tokens_in = CASE WHEN excluded.tokens_in IS NULL THEN usage_metrics.tokens_in
ELSE COALESCE(usage_metrics.tokens_in, 0) + excluded.tokens_in END,
tokens_out = CASE WHEN excluded.tokens_out IS NULL THEN usage_metrics.tokens_out
ELSE COALESCE(usage_metrics.tokens_out, 0) + excluded.tokens_out END"""


PASSED = """INSERT INTO usage_sources (tenant_id, source, messages_in, messages_out, tokens_in, tokens_out)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, source) DO UPDATE SET
messages_in = usage_sources.messages_in + excluded.messages_in,
messages_out = usage_sources.messages_out + excluded.messages_out,
tokens_in = usage_sources.tokens_in + excluded.tokens_in, tokens_out = usage_sources.tokens_out + excluded.tokens_out"""


def settle(tenant: Tenant) -> None:
    """Take in what the agent counted before it is stopped. An agent that does not answer is stopped all the same."""
    for ask in BEFORE_STOP:
        contained(partial(ask, tenant), None, what="counts can't be read before the stop", tenant=tenant.slug)


def add_passed(source: UsageSource.Source, counts: Mapping[int, Mapping[str, int]]) -> None:
    """Add what passed a door since it last said so, by tenant and measure, to the present hour and to what the door
    counted of each altogether: both or neither."""
    rows = sorted(counts.items())
    sums: list[tuple[int | str, ...]] = [
        (tenant, str(source), *(of.get(name, 0) for name in UsageHour.FIELDS)) for tenant, of in rows
    ]
    with transaction.atomic():
        add_many(rows, current_hour())
        with connection.cursor() as cursor:
            cursor.executemany(PASSED, sums)


def passed(tenants: Iterable[int]) -> dict[int, dict[str, int]]:
    """What all doors together counted of these tenants so far, by measure; one of whom none has is absent."""
    found: dict[int, dict[str, int]] = {}
    rows = UsageSource.objects.filter(tenant__in=tenants).values_list("tenant_id", *UsageHour.FIELDS)
    for tenant, *values in rows:
        sums = found.setdefault(tenant, dict.fromkeys(UsageHour.FIELDS, 0))
        for name, value in zip(UsageHour.FIELDS, values, strict=True):
            sums[name] += value
    return found


def current_hour() -> int:
    """The first second of the present hour, in seconds since 1970."""
    now = int(clock.now().timestamp())
    return now - now % HOUR_S


def add(tenant_id: int, **counts: int) -> None:
    """Add ``messages_in``, ``messages_out``, ``tokens_in``, ``tokens_out`` to the present hour; what is not given
    stays unknown if it was."""
    add_many([(tenant_id, counts)], current_hour())


def add_many(rows: Iterable[tuple[int, Mapping[str, int | None]]], hour: int) -> None:
    """The same for many tenants and an hour, within the caller's transaction if there is one."""
    values = [(tenant, hour, *(counts.get(name) for name in UsageHour.FIELDS)) for tenant, counts in rows]
    with connection.cursor() as cursor:
        cursor.executemany(ADD, values)
