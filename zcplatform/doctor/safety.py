"""Looking at what guards the installation: periodic jobs, backups, and what killed acts left."""

from __future__ import annotations

import time
from pathlib import Path

from django.conf import settings
from django.db import connection
from django_q.models import Schedule

from backups import folder, results, upkeep
from zcplatform import schedules
from zcplatform.doctor.findings import Looked
from zcplatform.lib import swap
from zcplatform.lib.words import count

WAL_WARN_BYTES = 256 << 20
STALE_HOME_S = 3_600


def periodic_jobs() -> Looked:
    """The queue's table against what the code declares, and whether the scheduler looks at it."""
    rows = {row.name: row for row in Schedule.objects.filter(name__startswith=schedules.PREFIX)}
    for job in schedules.PERIODIC:
        row = rows.pop(schedules.PREFIX + job.name, None)
        if row is None or (row.func, row.cron) != (job.func, job.cron):
            what = "is not in the queue's table" if row is None else "differs from what the code declares"
            yield "error", f"The periodic job {job.name} {what}.", "Run: zcplatform ensure-schedules"
    for name in rows:
        yield "warning", f"The periodic job {name} is declared no longer.", "Run: zcplatform ensure-schedules"


def backups() -> Looked:
    """Whether they are made, can be restored, and lie where only the platform reads them."""
    if not settings.BACKUP_CRON:
        yield (
            "warning",
            "No backups are scheduled.",
            "Set ZCPLATFORM_BACKUP_CRON, or run zcplatform backup by other means.",
        )
    for guard in results.guards():
        if guard.fault:
            command = "backup" if guard.name == results.BACKUP else "restore-drill"
            yield "warning", f"{guard.label} {guard.fault}.", f"Run: zcplatform {command}"
    path = Path(settings.BACKUP_DIR)
    if not path.is_dir():
        return
    if path.stat().st_mode & 0o027:
        yield "error", f"{path} is open to others, and archives hold keys.", f"Run: chmod 700 {path}"
    for archive in folder.archives(path):
        if archive.stat().st_mode & 0o077:
            yield "error", f"{archive} can be read by others.", "Run: chmod 600 on it, and rotate the keys."
    if results.last_good(results.BACKUP) and not folder.archives(path):
        yield (
            "warning",
            f"Backups were made, and {path} holds none.",
            "Find out where they went, and run: zcplatform backup",
        )


def leftovers() -> Looked:
    """What a restore or a killed act left behind, folders of no tenant, and a write-ahead log that only grows."""
    home = Path(settings.HOME)
    if kept := swap.kept(home):
        what = f"The state before the last restore is still kept, in {count(len(kept), 'file')}."
        yield "warning", what, "Start serve, which deletes it once it is healthy, or run: zcplatform restore --undo"
    for path in upkeep.temporary(home, older_than_s=STALE_HOME_S):
        yield "warning", f"{path} was left by something that was killed.", "Run: zcplatform maintenance"
    for path in upkeep.folders_of_nobody(home):
        yield (
            "warning",
            f"{path} belongs to no tenant.",
            "Look at it and move it away; it may stem from before a restore.",
        )
    log = Path(f"{connection.settings_dict['NAME']}-wal")
    if connection.vendor == "sqlite" and log.exists() and log.stat().st_size > WAL_WARN_BYTES:
        size = log.stat().st_size >> 20
        yield (
            "warning",
            f"The write-ahead log has {size} MB: something reads for very long.",
            "Run: zcplatform maintenance",
        )
    old = time.time() - settings.TRASH_DAYS * 86_400 - 2 * 86_400
    for path in upkeep.trash_of_nobody(home, before=old):
        yield "warning", f"{path} has been in the trash for too long.", "Run: zcplatform maintenance"
