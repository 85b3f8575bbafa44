"""To the database schema of the code that is installed: a backup, a migrated copy of it, a look at the copy, and only
then a swap. The database in use is never migrated in place, so a migration that fails half-way leaves nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from backups import services
from zcplatform import keys, startup
from zcplatform.lib import child
from zcplatform.lib.errors import Conflict, Misconfigured
from zcplatform.lib.failpoints import failpoint
from zcplatform.lib.serve_lock import nobody_serves

LIMIT_S = 600
Say = Callable[[str], None]


@dataclass(frozen=True)
class Upgraded:
    """``migrated`` is empty when there was nothing to do, and then ``backup`` is too."""

    backup: str
    migrated: list[str]


def upgrade(say: Say) -> Upgraded:
    """Bring the home to this code. Conflict ``platform_running`` while ``serve`` runs; Misconfigured ``upgrade_failed``
    with what went wrong, after everything was put back."""
    with nobody_serves(Path(settings.HOME)):
        if lost := startup.lost_database():
            raise Conflict(lost, type="database_lost")
        keys.create_missing(Path(settings.KEYS_DIR), Path(settings.HOME))
        behind = startup.unapplied_migrations()
    if newer := startup.newer_migrations():
        raise Conflict(newer, type="database_newer")
    if not behind:
        return Upgraded("", [])
    made = services.backup_before_migrating()
    say(f"backup: {made.path}")
    failpoint("upgrade.backed_up")
    restored = services.restore(Path(made.path), reason="upgrade")
    say(f"migrated: {len(restored.migrated)} migrations, on a copy that has taken the database's place")
    failpoint("upgrade.swapped")
    if fault := _check():
        services.undo_restore()
        raise Misconfigured(f"Put back to what it was, since the checks fail: {fault}", type="upgrade_failed")
    return Upgraded(made.path, restored.migrated)


def _check() -> str:
    """The start's own checks, by a process that reads everything anew."""
    argv = child.module("zcplatform", "check", "--deploy", "--database", "default", "--fail-level", "ERROR")
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "zcplatform.settings", "PYTHONPATH": child.python_path()}
    done = subprocess.run(
        argv, env=env, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    return "" if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip())[-2_000:]
