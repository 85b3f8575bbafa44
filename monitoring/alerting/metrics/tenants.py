"""Metrics of tenants: of each that the metric applies to, in a constant number of queries."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import QuerySet

from monitoring import queries
from monitoring.alerting.metrics.fleet import share
from monitoring.alerting.metrics.registry import Reading, Scope, metric
from monitoring.models import HealthState, ResourceCounter
from tenants import quotas
from tenants.models import Tenant
from tenants.states import Desired, Health, Status

_HEALTH = {Health.OK: 0.0, Health.FAILING: 1.0}


@metric("tenant_in_error", "The tenant is in error", "0 or 1", Scope.TENANT)
def in_error() -> Iterator[Reading]:
    for tenant in _should_run():
        yield _reading(tenant, float(tenant.status == Status.ERROR))


@metric("tenant_failing", "The agent fails its probes", "0 or 1", Scope.TENANT)
def failing() -> Iterator[Reading]:
    """Unknown health, as when the engine does not answer, is no failure."""
    for tenant in _running():
        yield _reading(tenant, _HEALTH.get(Health(tenant.health)))


@metric("tenant_restarts", "Restarts by the health sweep within an hour", "restarts", Scope.TENANT)
def restarts() -> Iterator[Reading]:
    counts = {row.pk: len(row.restarts) for row in HealthState.objects.only("tenant_id", "restarts")}
    for tenant in _should_run():
        yield _reading(tenant, float(counts.get(tenant.pk, 0)))


@metric("tenant_cpu_pct", "CPU, of what the plan gives", "%", Scope.TENANT)
def cpu() -> Iterator[Reading]:
    return _of_snapshot("cpu_pct", "cpu_limit_pct")


@metric("tenant_memory_pct", "Memory, of the limit", "%", Scope.TENANT)
def memory() -> Iterator[Reading]:
    return _of_snapshot("mem_bytes", "mem_limit")


@metric("tenant_disk_pct", "Disk, of what the plan gives", "%", Scope.TENANT)
def disk() -> Iterator[Reading]:
    used = dict(ResourceCounter.objects.values_list("tenant_id", "disk_bytes"))
    for tenant in Tenant.objects.alive().exclude(desired=Desired.DELETED).select_related("plan"):
        yield _reading(tenant, share(used.get(tenant.pk), tenant.plan.disk_limit_mb * 1_048_576))


@metric("tenant_messages_pct", "Messages today, of what the plan gives", "%", Scope.TENANT)
def messages() -> Iterator[Reading]:
    return _of_quotas(0)


@metric("tenant_tokens_pct", "Tokens this month, of what the plan gives", "%", Scope.TENANT)
def tokens() -> Iterator[Reading]:
    return _of_quotas(1)


def _of_quotas(position: int) -> Iterator[Reading]:
    """By the one engine of quotas, which also says when nothing is known: that is not zero."""
    tenants = list(_should_run().select_related("plan"))
    found = quotas.of_many(tenants)
    for tenant in tenants:
        quota = found[tenant.pk][position]
        yield _reading(tenant, quota.share * 100 if quota.known else None)


def _of_snapshot(used: str, limit: str) -> Iterator[Reading]:
    """Of the newest snapshot of each running tenant, where it is fresh."""
    current = queries.latest()
    for tenant in _running():
        row = current.get(tenant.pk)
        yield _reading(tenant, share(row[used], row[limit]) if row else None)


def _should_run() -> QuerySet[Tenant]:
    return Tenant.objects.alive().filter(desired=Desired.RUNNING).order_by("pk")


def _running() -> QuerySet[Tenant]:
    return _should_run().filter(status=Status.RUNNING)


def _reading(tenant: Tenant, value: float | None) -> Reading:
    return Reading(str(tenant.public_id), value, label=tenant.slug, tenant=tenant.pk)
