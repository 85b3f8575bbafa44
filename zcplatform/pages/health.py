"""The platform's own health, for its operators: workers, queue, schedules, sweeps, jobs, keys, mail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count
from django_q.models import OrmQ, Schedule

from backups import results
from monitoring import audit_check
from monitoring.alerting.machine import State
from monitoring.alerting.models import Alert
from monitoring.heartbeats import late
from monitoring.models import Heartbeat, HostSnapshot, Sweep
from tenants.models import Run
from tenants.records import JobResult
from tenants.states import RunStatus
from vault.models import KeyVersion
from zcplatform.lib import clock
from zcplatform.schedules import PREFIX

PARTS = ("runs", "sweeps")
SILENT = timedelta(seconds=60)
VERIFY_AGE = timedelta(hours=26)


@dataclass(frozen=True)
class Fact:
    """``state`` is ok, bad or unknown."""

    name: str
    state: str
    text: str
    at: datetime | None = None


def facts() -> dict[str, Any]:
    """Everything that the page shows; each part by one query."""
    return {
        "heartbeats": heartbeats(),
        "queue": queue(),
        "jobs": [*map(guard, results.guards()), job(audit_check.JOB, VERIFY_AGE)],
        "sweeps": Sweep.objects.order_by("name"),
        "schedules": schedules(),
        "keys": KeyVersion.objects.order_by("-version"),
        "host": HostSnapshot.objects.newest(),
        "alerts": Alert.objects.filter(state=State.FIRING).select_related("tenant").order_by("-pk")[:20],
    }


def heartbeats() -> list[Fact]:
    seen = dict(Heartbeat.objects.values_list("name", "beat_at"))
    return [*(_beat(name, seen.get(name)) for name in PARTS), *(Fact(name, "bad", "does not end") for name in late())]


def _beat(name: str, at: datetime | None) -> Fact:
    if at is None:
        return Fact(name, "bad", "never seen")
    silent = clock.now() - at > SILENT
    return Fact(name, "bad" if silent else "ok", "silent" if silent else "alive", at)


def queue() -> dict[str, Any]:
    """Tasks that wait in each cluster's queue, and runs by status that are not over."""
    waiting = dict(OrmQ.objects.order_by().values_list("key").annotate(Count("pk")))
    active = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PARKED)
    rows = Run.objects.filter(status__in=active).order_by().values_list("status").annotate(Count("pk"))
    runs = dict(rows)
    return {
        "waiting": [(name, waiting.get(name, 0)) for name in PARTS],
        "runs": [(status.value, runs.get(status, 0)) for status in active],
    }


def guard(found: results.Guard) -> Fact:
    """Backup or restore drill; one that is not due yet is neither well nor ill."""
    state = "bad" if found.fault else "ok" if found.at else "unknown"
    return Fact(found.name, state, found.fault or ("ok" if found.at else "has not run yet"), found.at)


def job(name: str, age: timedelta) -> Fact:
    row = JobResult.objects.filter(name=name).order_by("-at").first()
    if row is None:
        return Fact(name, "unknown", "has not run yet")
    if not row.ok:
        return Fact(name, "bad", row.detail or "failed", row.at)
    old = clock.now() - row.at > age
    return Fact(name, "bad" if old else "ok", "too long ago" if old else row.detail or "ok", row.at)


def schedules() -> list[dict[str, Any]]:
    """Ours, with when each is due."""
    rows = Schedule.objects.filter(name__startswith=PREFIX).order_by("name")
    late = clock.now() - timedelta(minutes=5)
    return [
        {"name": row.name.removeprefix(PREFIX), "cron": row.cron, "next": row.next_run, "late": row.next_run < late}
        for row in rows
    ]
