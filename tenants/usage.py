"""Adding to what a tenant used in an hour. Only ever added to: whoever counts gives what came since it last did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import connection

from tenants.records import UsageHour
from zcplatform.lib import clock

HOUR_S = 3_600

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
