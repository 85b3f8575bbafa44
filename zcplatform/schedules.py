"""The periodic jobs, declared once. ``ensure`` makes the queue's table say the same.

The queue's scheduler looks every 30 s, so nothing is finer; it never catches up and does not prevent overlap, so
each job takes its own lease. Crons with six fields have the seconds last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import transaction
from django_q.models import Schedule

PREFIX = "zcplatform."
_TIMEOUT: Any = settings.Q_CLUSTER["timeout"]
QUEUE_S = float(_TIMEOUT)  # then the queue kills it
CLUSTER = "sweeps"  # the only cluster that runs a scheduler


@dataclass(frozen=True)
class Periodic:
    """One job: its name here, the function's dotted path, when it is due, and after how many seconds it hangs."""

    name: str
    func: str
    cron: str
    longest_s: float = 120.0  # as long as a sweep's lease


PERIODIC = (
    Periodic("reconcile-sweep", "tenants.tasks.reconcile_sweep", "* * * * * */30"),
    Periodic("health", "monitoring.tasks.sweep_health", "* * * * * */30"),
    Periodic("resources", "monitoring.tasks.sweep_resources", "* * * * *"),
    Periodic("disks", "monitoring.tasks.sweep_disks", "* * * * *", 300.0),
    Periodic("usage", "monitoring.tasks.sweep_usage", "*/5 * * * *", 300.0),
    Periodic("rollup", "monitoring.tasks.roll_up", "4-59/10 * * * *", QUEUE_S),
    Periodic("prune", "monitoring.tasks.prune", "37 4 * * *", QUEUE_S),
    Periodic("due-runs", "tenants.tasks.enqueue_due_runs", "* * * * * */30"),
    Periodic("alerts", "monitoring.tasks.evaluate_alerts", "* * * * *"),
    Periodic("alert-messages", "monitoring.tasks.send_alerts", "* * * * * */30"),
    Periodic("alerts-prune", "monitoring.alerting.services.prune", "37 3 * * *", QUEUE_S),
    Periodic("audit-verify", "monitoring.tasks.verify_audit", "33 4 * * *", QUEUE_S),
    Periodic("trash-purge", "tenants.tasks.purge_trash", "17 3 * * *", QUEUE_S),
    Periodic("idempotency-prune", "accounts.idempotency.prune", "47 3 * * *", QUEUE_S),
    Periodic("rates-prune", "accounts.rates.prune", "23 * * * *", QUEUE_S),
    Periodic("mail", "accounts.mail.send_due", "* * * * * */30"),
    Periodic("mail-prune", "accounts.mail.prune", "53 3 * * *", QUEUE_S),
    Periodic("codes-prune", "accounts.codes.prune", "29 * * * *", QUEUE_S),
    Periodic("logins-prune", "accounts.logins.prune", "51 3 * * *", QUEUE_S),
    *((Periodic("backup", "backups.tasks.backup", settings.BACKUP_CRON, QUEUE_S),) if settings.BACKUP_CRON else ()),
    *((Periodic("restore-drill", "backups.tasks.drill", settings.DRILL_CRON, QUEUE_S),) if settings.DRILL_CRON else ()),
    Periodic("upkeep", "backups.tasks.upkeep_home", "37 3 * * *", QUEUE_S),
)


def longest_s(func: str) -> float:
    """After how many seconds a task hangs; what is no job of ours may take as long as the queue allows."""
    known = {job.func: job.longest_s for job in PERIODIC}
    return min(known.get(func, QUEUE_S), QUEUE_S)


@dataclass
class Report:
    """The names of what was added, changed and removed."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def ensure(declared: tuple[Periodic, ...] = PERIODIC) -> Report:
    """Add what is declared, mend what differs, remove ours that is declared no longer or twice. Idempotent.

    Schedules that somebody else made are left alone: ours are known by their prefix.
    """
    report = Report()
    with transaction.atomic():
        ours = Schedule.objects.select_for_update().filter(name__startswith=PREFIX).order_by("pk")
        rows: dict[str, Schedule] = {}
        for row in ours:
            if row.name in {PREFIX + job.name for job in declared} - set(rows):
                rows[row.name] = row
            else:
                report.removed.append(row.name)
                row.delete()
        for job in declared:
            _upsert(job, rows.get(PREFIX + job.name), report)
    return report


def _upsert(job: Periodic, row: Schedule | None, report: Report) -> None:
    wanted = {"func": job.func, "cron": job.cron, "schedule_type": Schedule.CRON, "cluster": CLUSTER, "repeats": -1}
    if row is not None and all(getattr(row, name) == value for name, value in wanted.items()):
        return
    (report.added if row is None else report.changed).append(PREFIX + job.name)
    row = row or Schedule(name=PREFIX + job.name)
    for name, value in wanted.items():
        setattr(row, name, value)
    row.full_clean()  # a bad cron ends here
    row.next_run = row.calculate_next_run()
    row.save()
