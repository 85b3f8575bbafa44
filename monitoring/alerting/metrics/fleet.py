"""Metrics of the platform itself and of its host."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import Now
from django_q.models import OrmQ

from accounts import mail
from accounts.models import User
from monitoring import audit_check, heartbeats
from monitoring.alerting.metrics.registry import Reading, Scope, metric
from monitoring.models import Heartbeat, HostSnapshot, Sweep
from tenants.models import Tenant
from tenants.records import JobResult
from tenants.states import Desired, Health, Status
from zcplatform.lib import clock

FRESH_S = 300
"""A snapshot that is older says nothing of now, in seconds."""
BACKUP = "backup"


@metric("tenants_in_error", "Tenants in error", "tenants", Scope.PLATFORM)
def tenants_in_error() -> Iterator[Reading]:
    yield _counted(Tenant.objects.filter(status=Status.ERROR))


@metric("health_errors", "Tenants that should answer and do not", "tenants", Scope.PLATFORM)
def health_errors() -> Iterator[Reading]:
    """Document 004's "health_checker error count": in error, or running and failing its probes."""
    bad = Q(status=Status.ERROR) | Q(status=Status.RUNNING, health=Health.FAILING)
    yield _counted(Tenant.objects.filter(bad, desired=Desired.RUNNING))


@metric("host_cpu_pct", "Host's CPU", "%", Scope.PLATFORM)
def host_cpu() -> Iterator[Reading]:
    row = _host()
    yield Reading("", row.cpu_mpct / 1000 if row and row.cpu_mpct is not None else None)


@metric("host_memory_pct", "Host's memory", "%", Scope.PLATFORM)
def host_memory() -> Iterator[Reading]:
    row = _host()
    yield Reading("", share(row.mem_bytes, row.mem_total) if row else None)


@metric("host_disk_pct", "Host's fullest disk", "%", Scope.PLATFORM)
def host_disk() -> Iterator[Reading]:
    row = _host()
    yield Reading("", share(row.disk_bytes, row.disk_total) if row else None)


@metric("sweep_lag_s", "Lag of a sweep's last turn", "s", Scope.PLATFORM)
def sweep_lag() -> Iterator[Reading]:
    for name, lag in Sweep.objects.order_by("name").values_list("name", "lag_ms"):
        yield Reading(name, None if lag is None else lag / 1000, label=name)


@metric("sweep_failing", "A sweep's last turn broke off", "0 or 1", Scope.PLATFORM)
def sweep_failing() -> Iterator[Reading]:
    for name, error in Sweep.objects.order_by("name").values_list("name", "error"):
        yield Reading(name, float(bool(error)), label=name)


@metric("heartbeat_age_s", "Age of a worker cluster's heartbeat", "s", Scope.PLATFORM)
def heartbeat_age() -> Iterator[Reading]:
    rows = Heartbeat.objects.filter(name__in=heartbeats.CLUSTERS).annotate(now=Now()).order_by("name")
    for row in rows:
        yield Reading(row.name, max((row.now - row.beat_at).total_seconds(), 0), label=row.name)


@metric("queue_depth", "Tasks waiting in a queue", "tasks", Scope.PLATFORM)
def queue_depth() -> Iterator[Reading]:
    counts = dict(OrmQ.objects.order_by().values_list("key").annotate(Count("pk")))
    for name in heartbeats.CLUSTERS:
        yield Reading(name, float(counts.get(name, 0)), label=name)


@metric("mail_queue_age_s", "Age of the oldest mail that waits", "s", Scope.PLATFORM)
def mail_queue_age() -> Iterator[Reading]:
    yield Reading("", mail.queue_age_s() or 0.0)


@metric("backup_age_s", "Age of the newest good backup", "s", Scope.PLATFORM)
def backup_age() -> Iterator[Reading]:
    """Where none was ever made, as old as the installation."""
    newest = JobResult.objects.filter(name=BACKUP, ok=True).aggregate(at=Max("at"))["at"]
    since = newest or User.objects.order_by("created_at").values_list("created_at", flat=True).first()
    yield Reading("", _age(since))


@metric("job_failed", "The last turn of a job of the platform failed", "0 or 1", Scope.PLATFORM)
def job_failed() -> Iterator[Reading]:
    """Document 004's "backup job exit code", and that of every other job that leaves a result."""
    for name in JobResult.objects.order_by("name").values_list("name", flat=True).distinct():
        if name != audit_check.JOB:
            yield Reading(name, float(not _last_is_ok(name)), label=name)


@metric("audit_chain_broken", "The audit's chain does not hold", "0 or 1", Scope.PLATFORM)
def audit_chain() -> Iterator[Reading]:
    ok = _last_is_ok(audit_check.JOB)
    yield Reading("", None if ok is None else float(not ok))


def share(used: int | float | None, total: int | float | None) -> float | None:
    """Percent; None when either is not known."""
    return 100 * used / total if used is not None and total else None


def _counted(tenants: QuerySet[Tenant]) -> Reading:
    """How many there are, and which: a number alone sends nobody to the right place."""
    slugs = tuple(tenants.order_by("slug").values_list("slug", flat=True))
    return Reading("", float(len(slugs)), which=slugs)


def _host() -> HostSnapshot | None:
    row = HostSnapshot.objects.newest()
    return row if row and clock.now().timestamp() - row.ts <= FRESH_S else None


def _age(at: datetime | None) -> float | None:
    return None if at is None else max((clock.now() - at).total_seconds(), 0)


def _last_is_ok(job: str) -> bool | None:
    return JobResult.objects.filter(name=job).order_by("-at", "-pk").values_list("ok", flat=True).first()
