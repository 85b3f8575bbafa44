"""What the monitoring routes give."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from zcplatform.lib.schemas import In, Out, Page, PageQuery

Counted = list[int | None]


class SweepOut(Out):
    """A periodic sweep's last turn."""

    name: str = Field(examples=["health"])
    started_at: datetime | None
    finished_at: datetime | None = Field(description="When a turn last ended well.")
    duration_ms: int | None
    lag_ms: int | None = Field(description="By how much the last turn began late.")
    items: int
    failures: int
    overruns: int = Field(description="Turns left out because another was still at work.")


class NodeOut(Out):
    """Capacity of a node."""

    name: str
    runtime: str
    state: str
    slots: int
    slots_used: int
    slots_free: int


class HostOut(Out):
    """The host of the platform. `cpu_pct` is of all its cores; the disk is the fullest one that matters."""

    at: int = Field(description="Seconds since 1970.")
    cpu_pct: float | None
    mem_bytes: int
    mem_total: int
    disk_bytes: int
    disk_total: int
    disk_pct: float


class FleetUse(Out):
    """What all tenants counted in a period; null when nothing was."""

    messages_in: int | None
    messages_out: int | None
    tokens_in: int | None
    tokens_out: int | None


class FleetUses(Out):
    """Of the present day and month, both in UTC, of deleted tenants too."""

    today: FleetUse
    this_month: FleetUse


class DashboardOut(Out):
    """The fleet in figures."""

    tenants: dict[str, int] = Field(description="In total and by status.")
    health: dict[str, int] = Field(description="Of the running tenants.")
    users: int
    channels: int
    held: int = Field(description="Tenants with a hold.")
    runs_active: int
    nodes: list[NodeOut]
    usage: FleetUses
    host: HostOut | None
    sweeps: list[SweepOut]


class HealthOut(Out):
    """One tenant's status and health."""

    id: UUID
    slug: str
    status: str
    health: str
    reason: str
    detail: str
    desired: str
    strikes: int = Field(description="Consecutive failed probes.")
    health_since: datetime | None
    uptime_s: int | None = Field(description="Seconds since it last came up; null when it is not running.")


class SnapshotOut(Out):
    """One sample of an agent. Null is what was not known."""

    at: int = Field(description="Seconds since 1970.")
    cpu_pct: float | None = Field(description="Of one core, since the sample before.")
    cpu_limit_pct: int | None = Field(description="What the plan gives, in the same percent.")
    mem_bytes: int | None
    mem_limit: int | None
    disk_bytes: int | None
    net_in: int | None = Field(description="Bytes since the sample before.")
    net_out: int | None
    pids: int | None


class TenantResources(Out):
    """A tenant with its newest sample, or null when there is none of the last minutes."""

    id: UUID
    slug: str
    status: str
    resources: SnapshotOut | None


class TotalsOut(Out):
    """Sums over the tenants that have a fresh sample."""

    tenants: int
    cpu_pct: float
    mem_bytes: int
    disk_bytes: int
    net_in: int
    net_out: int
    pids: int


class FleetResources(Page[TenantResources]):
    """One page of the tenants, the sums over all of them, and the host."""

    totals: TotalsOut
    host: HostOut | None


class QuotaOut(Out):
    """How much of what the plan gives is used. `used` is null when nothing was counted."""

    name: Literal["messages", "tokens", "disk"]
    used: int | None
    limit: int
    share: float | None = Field(description="Of the limit: 1 is all of it.")
    resets_at: int | None = Field(description="Seconds since 1970; null for the disk.")


class TenantQuotas(Out):
    """A tenant's quotas."""

    id: UUID
    slug: str
    plan: str
    quotas: list[QuotaOut]


class FleetUsage(Page[TenantQuotas]):
    """One page of the tenants, and the sums over all of them, those that were deleted meanwhile included."""

    totals: FleetUses


class ResourceChart(Out):
    """Columns of at most 300 points; null is a gap."""

    range: str
    step_s: int
    ts: list[int] = Field(description="Seconds since 1970 at which each step begins.")
    cpu_pct: list[float | None]
    cpu_limit_pct: Counted
    mem_bytes: Counted
    mem_limit: Counted
    disk_bytes: Counted
    net_in: Counted
    net_out: Counted
    pids: Counted


class UsageOut(Out):
    """Quotas, and columns of what was used; null is a gap."""

    quotas: list[QuotaOut]
    range: str
    step_s: int
    ts: list[int] = Field(description="Seconds since 1970 at which each step begins.")
    messages_in: Counted
    messages_out: Counted
    tokens_in: Counted
    tokens_out: Counted


class CountersOut(Out):
    """What the agent counted since it was started."""

    messages_in: int | None
    messages_out: int | None
    tokens_in: int | None
    tokens_out: int | None


class MetricsOut(Out):
    """What is known of a tenant at this moment."""

    status: str
    health: str
    reason: str
    detail: str
    health_since: datetime | None
    strikes: int
    uptime_s: int | None
    resources: SnapshotOut | None
    counters: CountersOut | None
    counted_at: datetime | None


class AuditOut(Out):
    """One entry of the audit trail."""

    id: int
    created_at: datetime
    actor_id: str
    actor_email: str
    action: str
    outcome: str
    resource_type: str
    resource_id: str
    resource_name: str
    tenant_id: str
    ip_address: str
    request_id: str
    detail: dict[str, Any]


class AuditQuery(PageQuery):
    """What the trail is filtered by."""

    action: str | None = Field(None, max_length=64)
    outcome: Literal["ok", "denied", "failed"] | None = None
    tenant: UUID | None = None


class ResourceQuery(In):
    """How far back."""

    range: Literal["1h", "6h", "24h", "7d"] = "24h"


class UsageQuery(In):
    """How far back."""

    range: Literal["24h", "7d", "30d"] = "24h"
