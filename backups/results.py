"""Writing down what became of a job, and telling when one has not been done for too long."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.migrations.recorder import MigrationRecorder

from tenants.records import JobResult
from zcplatform.lib import clock
from zcplatform.lib.redact import scrub

BACKUP, DRILL = "backup", "restore-drill"
KEPT = 200  # rows of each name
MAX_DETAIL = 500
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guard:
    """How a job stands. ``fault`` is empty when all is well, else a sentence; ``at`` is the last success."""

    name: str
    label: str
    at: datetime | None
    fault: str


def counts(name: str, folder: Path) -> bool:
    """Whether what was done with ``folder`` says how the job stands. Where it is scheduled, only ``BACKUP_DIR`` does:
    what somebody tries elsewhere neither alarms anybody nor covers up that the job fails."""
    scheduled = {BACKUP: settings.BACKUP_CRON, DRILL: settings.DRILL_CRON}[name]
    return not scheduled or folder.resolve() == Path(settings.BACKUP_DIR).resolve()


def note(name: str, *, ok: bool, detail: str) -> None:
    """Add a row, and drop the oldest beyond ``KEPT``; inside the caller's transaction if there is one."""
    with transaction.atomic():
        JobResult.objects.create(name=name, ok=ok, detail=scrub(detail)[:MAX_DETAIL])
        kept = JobResult.objects.filter(name=name).order_by("-pk").values_list("pk", flat=True)[:KEPT]
        JobResult.objects.filter(name=name).exclude(pk__in=list(kept)).delete()


def note_failure(name: str, detail: str) -> None:
    """The same for a failure, which must still be told where even that can't be written."""
    log.error("%s failed: %s", name, scrub(detail))
    try:
        note(name, ok=False, detail=detail)
    except DatabaseError:
        log.exception("the failure of %s can't be written down", name)


def last_good(name: str) -> datetime | None:
    """When the job last ended well."""
    return JobResult.objects.filter(name=name, ok=True).order_by("-at").values_list("at", flat=True).first()


def guards() -> list[Guard]:
    """Both jobs as they stand; none of those that the settings switch off."""
    wanted = (
        (BACKUP, "The backup", settings.BACKUP_CRON, settings.BACKUP_MAX_AGE_HOURS),
        (DRILL, "The restore drill", settings.DRILL_CRON, settings.DRILL_MAX_AGE_HOURS),
    )
    return [_guard(name, label, timedelta(hours=hours)) for name, label, cron, hours in wanted if cron]


def _guard(name: str, label: str, longest: timedelta) -> Guard:
    rows = JobResult.objects.filter(name=name).order_by("-at", "-pk")
    at = last_good(name)
    return Guard(name, label, at, _fault(rows.first(), at, longest))


def _fault(newest: JobResult | None, at: datetime | None, longest: timedelta) -> str:
    if newest is None:
        return "has never been done" if _installed_before(clock.now() - longest) else ""
    if not newest.ok:
        return f"failed on {clock.in_words(newest.at, clock.MINUTE)}: {newest.detail}"
    if at and clock.now() - at > longest:
        told = clock.in_words(at, clock.MINUTE)
        return f"was last done on {told}, more than {longest.total_seconds() / 3600:.0f} hours ago"
    return ""


def _installed_before(moment: datetime) -> bool:
    """Whether the installation is older than that: its first migration tells."""
    return MigrationRecorder.Migration.objects.filter(applied__lt=moment).exists()
