"""The rules that exist by default. Those of document 004 say so; the rest cover what it could not know of.

What the platform can't see of itself ("API unreachable for 2 minutes" of the same table) is covered from outside: the
outgoing heartbeat and ``deploy/prometheus/zcplatform.rules.yml``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction

from monitoring.alerting.models import AlertRule, Audience, Comparison, Severity

_MIN, _HOUR = 60, 3_600


@dataclass(frozen=True)
class Default:
    """One rule; the fields are those of ``AlertRule``."""

    key: str
    name: str
    metric: str
    threshold: float
    hold_s: int
    severity: Severity = Severity.WARNING
    comparison: Comparison = Comparison.ABOVE
    audience: Audience = Audience.PLATFORM
    repeat_s: int = 4 * _HOUR


_CRITICAL, _AT_LEAST, _TENANT, _BOTH = Severity.CRITICAL, Comparison.AT_LEAST, Audience.TENANT, Audience.BOTH
_DAY = 24 * _HOUR

DEFAULTS = (
    # document 004
    Default("health-errors", "Tenants fail", "health_errors", 0, 5 * _MIN),
    Default("tenant-cpu", "CPU is busy", "tenant_cpu_pct", 80, 15 * _MIN, audience=_BOTH),
    Default("host-disk", "Host's disk fills up", "host_disk_pct", 80, 5 * _MIN),
    Default("host-disk-full", "Host's disk is nearly full", "host_disk_pct", 95, _MIN, _CRITICAL),
    Default("job-failed", "A job failed", "job_failed", 1, 0, comparison=_AT_LEAST),
    # the host and the platform
    Default("host-cpu", "Host's CPU is busy", "host_cpu_pct", 80, 15 * _MIN),
    Default("host-memory", "Host's memory fills up", "host_memory_pct", 80, 15 * _MIN),
    Default("host-memory-full", "Host's memory is nearly full", "host_memory_pct", 95, 5 * _MIN, _CRITICAL),
    Default("worker-silent", "A worker cluster is silent", "heartbeat_age_s", 60, 2 * _MIN, _CRITICAL),
    Default("sweep-lag", "A sweep lags", "sweep_lag_s", 60, 10 * _MIN),
    Default("sweep-failing", "A sweep breaks off", "sweep_failing", 1, 5 * _MIN, comparison=_AT_LEAST),
    Default("queue-depth", "Tasks pile up in a queue", "queue_depth", 100, 10 * _MIN),
    Default("mail-waits", "Mail does not go out", "mail_queue_age_s", 15 * _MIN, 5 * _MIN),
    Default("backup-old", "The newest backup is old", "backup_age_s", 26 * _HOUR, 0, repeat_s=_DAY),
    Default("audit-chain", "The audit's chain is broken", "audit_chain_broken", 1, 0, _CRITICAL, _AT_LEAST),
    # each tenant
    Default("tenant-error", "The tenant is in error", "tenant_in_error", 1, 5 * _MIN, _CRITICAL, _AT_LEAST, _TENANT),
    Default(
        "tenant-failing", "The agent does not answer", "tenant_failing", 1, 5 * _MIN, _CRITICAL, _AT_LEAST, _TENANT
    ),
    Default("tenant-restarts", "The agent restarts often", "tenant_restarts", 3, 0, Severity.WARNING, _AT_LEAST, _BOTH),
    Default("tenant-memory", "Memory is nearly used up", "tenant_memory_pct", 90, 15 * _MIN, audience=_TENANT),
    Default("tenant-disk", "Disk fills up", "tenant_disk_pct", 80, 0, Severity.WARNING, _AT_LEAST, _BOTH, _DAY),
    *(
        Default(f"tenant-{what}-{share}", f"{name} reach {share} %", f"tenant_{what}_pct", share, 0, severity, *rest)
        for what, name in (("messages", "Messages of the day"), ("tokens", "Tokens of the month"))
        for share, severity in ((80, Severity.WARNING), (90, Severity.WARNING), (100, _CRITICAL))
        for rest in [(_AT_LEAST, _TENANT, 0)]
    ),
)


def ensure_defaults(defaults: tuple[Default, ...] = DEFAULTS) -> int:
    """Make the default rules that are absent and bring those that nobody edited to what stands here; returns how many
    were made or changed. They can be disabled, not deleted: what was deleted would come back."""
    changed = 0
    with transaction.atomic():
        rows = {row.key: row for row in AlertRule.objects.select_for_update().filter(key__isnull=False)}
        for default in defaults:
            wanted = asdict(default)
            row = rows.get(default.key)
            if row is None:
                AlertRule.objects.create(**wanted)
            elif row.edited_at is not None or not _differs(row, wanted):
                continue
            else:
                AlertRule.objects.filter(pk=row.pk).update(**wanted)
            changed += 1
    return changed


def _differs(row: AlertRule, wanted: dict[str, Any]) -> bool:
    return any(getattr(row, name) != value for name, value in wanted.items())
