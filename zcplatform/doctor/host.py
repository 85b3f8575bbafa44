"""Looking at this host: settings, files, database, Redis, clocks, vault, audit."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from accounts import rates
from accounts.mail import queue_age_s
from accounts.models import Mail
from audit.models import AuditEntry
from audit.services import verify_chain
from backups import places
from vault.services import verify_keyring
from zcplatform import keys, startup
from zcplatform.doctor.findings import Looked
from zcplatform.lib import clock
from zcplatform.lib.errors import Misconfigured
from zcplatform.lib.home import FOLDERS
from zcplatform.lib.private_files import check_private
from zcplatform.lib.sqlite3.base import SUFFIX
from zcplatform.lib.words import count

DISK_WARN, DISK_FULL = 0.80, 0.95
SKEW_S = 2.0
MAIL_WAIT_S = 120.0
FUTURE = timedelta(minutes=1)


def settings_fit() -> Looked:
    """Django's checks and ours; those for deployment where the platform is on https. Keys and vault have their own."""
    for message in checks.run_checks(include_deployment_checks=settings.IS_HTTPS):
        if message.is_silenced() or message.level < checks.WARNING:
            continue
        yield "error" if message.is_serious() else "warning", f"{message.msg} ({message.id})", message.hint or ""


def key_files() -> Looked:
    """Those that the environment replaces need not be there."""
    folder = Path(settings.KEYS_DIR)
    files = [*(folder / name for name in keys.NAMES.values()), Path(settings.VAULT_KEY_FILE)]
    for path in files:
        if not path.is_symlink() and not path.exists():
            continue
        try:
            check_private(path)
        except ImproperlyConfigured as error:
            yield "error", str(error), "Replace the key if somebody else may have read it."
    if folder.is_dir() and folder.stat().st_mode & 0o077:
        yield "error", f"{folder} can be entered by others.", f"Run: chmod 700 {folder}"


def folders() -> Looked:
    """A home that others can list tells them the tenants' ids; one that they can't enter stops the agents' own uids."""
    if not Path(settings.HOME).is_dir():
        yield "error", f"{settings.HOME} is not there.", "Run: zcplatform bootstrap"
        return
    for name, wanted in FOLDERS:
        path = Path(settings.HOME) / name
        if not path.is_dir():
            yield "error", f"{path} is not there.", "Run: zcplatform bootstrap"
            continue
        mode = path.stat().st_mode & 0o777
        if mode != wanted:
            yield (
                "error" if mode & 0o022 else "warning",
                f"{path} has mode {mode:04o}, not {wanted:04o}.",
                f"Run: chmod {wanted:o} {path}",
            )


def owners() -> Looked:
    """Everything of the platform belongs to one user: a file that root made by hand can't be written by the service."""
    home = Path(settings.HOME)
    if not home.is_dir():
        return
    mine = home.stat().st_uid
    paths = [*(home / name for name, _ in FOLDERS), Path(settings.KEYS_DIR), *places.files().values()]
    turns = (path.with_name(path.name + SUFFIX) for path in places.databases())  # who can't open it, waits by luck
    for path in [*paths, *places.databases(), *turns]:
        if path.exists() and path.stat().st_uid not in (mine, 0 if path == Path(settings.CONFIG_FILE) else mine):
            uid = path.stat().st_uid
            yield "error", f"{path} belongs to uid {uid}, the home to uid {mine}.", f"Run: chown {mine} {path}"


def disk() -> Looked:
    """Warns at 80 %, fails at 95 %: agents, logs and backups grow without asking."""
    if not Path(settings.HOME).is_dir():
        return
    usage = shutil.disk_usage(settings.HOME)
    share = usage.used / (usage.used + usage.free)
    what = f"{share:.0%} of the disk of {settings.HOME} is used, {usage.free / 1e9:.1f} GB are free."
    if share >= DISK_WARN:
        yield "error" if share >= DISK_FULL else "warning", what, "Make room, or move ZCPLATFORM_HOME to a larger disk."


def database() -> Looked:
    """Is there, answers, is migrated; SQLite's file is intact and private."""
    if startup.database_is_gone():
        todo = "Stop the platform and restore a backup. Checks that need the database's rows are left out."
        yield "error", startup.lost_database(), todo
        return
    if problem := startup.unapplied_migrations():
        yield "error", problem, "Checks that need the database's rows are left out."
        return
    if problem := startup.newer_migrations():
        yield "error", problem, "Use the version of the code that the database was last upgraded to."
    if connection.vendor != "sqlite":
        return
    if damage := startup.database_damage():
        yield "error", f"The database is damaged: {damage}", "Stop the platform and restore a backup."
    for suffix in ("", "-wal", "-shm", SUFFIX):
        path = Path(f"{connection.settings_dict['NAME']}{suffix}")
        if path.exists() and path.stat().st_mode & 0o077:
            mode = path.stat().st_mode & 0o777
            yield "error", f"{path} has mode {mode:04o}, not 0600.", f"Run: chmod 600 {path}"


def redis() -> Looked:
    """Answers, and keeps what is counted. Where no Redis is set the windows are in the database."""
    if reason := rates.fault():
        todo = "Logins and the API answer 503 meanwhile. Start Redis, or correct or unset ZCPLATFORM_REDIS_URL."
        yield "error", f"Nothing can be counted in Redis: {reason}", todo
    elif policy := rates.eviction():
        what = f"Redis drops limits that count when its memory is full ({policy})."
        yield "warning", what, "Set its maxmemory-policy to noeviction, or give the platform a Redis of its own."


def clocks() -> Looked:
    """Leases go by the database's clock, tokens by the host's, and the disk may be another machine's."""
    todo = "Set the clocks by NTP."
    for name, other in (("database", _database_time()), ("disk", _disk_time())):
        skew = abs((other - datetime.now(UTC)).total_seconds())
        if skew > SKEW_S:
            yield "warning", f"The {name}'s clock is {skew:.0f} s off this host's.", todo
    newest = AuditEntry.objects.order_by("-id").values_list("created_at", flat=True).first()
    if newest and newest > clock.now() + FUTURE:
        yield "warning", f"The newest row of the audit is from {clock.in_words(newest)}: the clock went back.", todo


def _database_time() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_TIMESTAMP")
        value = cursor.fetchone()[0]
    if isinstance(value, str):  # SQLite gives whole seconds
        value = datetime.fromisoformat(value).replace(tzinfo=UTC) + timedelta(seconds=0.5)
    return value


def _disk_time() -> datetime:
    with tempfile.NamedTemporaryFile(dir=settings.HOME) as file:
        os.utime(file.fileno())  # by the clock of whoever holds the file
        return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)


def vault() -> Looked:
    """The start's own look at the key file, with the database's mirror of it."""
    try:
        verify_keyring()
    except Misconfigured as error:
        yield "error", error.message, "Put the vault key file of this database back from a backup."


def audit() -> Looked:
    """Walks the whole chain: about 10 s for a million rows."""
    began = time.monotonic()
    verdict = verify_chain()
    if verdict.fault:
        todo = "Somebody wrote past the platform: keep the database as it is, and find out who."
        yield "error", verdict.fault.message, todo
    else:
        yield "ok", f"{count(verdict.count, 'row')} unbroken, walked in {time.monotonic() - began:.1f} s", ""


def mail_queue() -> Looked:
    """Mail that waits for long: people who wait for a code can't log in."""
    waited = queue_age_s()
    if waited is not None and waited > MAIL_WAIT_S:
        why = Mail.objects.filter(sent_at=None, failed_at=None).exclude(error="").values_list("error", flat=True).last()
        what = f"The oldest mail has waited {waited:.0f} s." + (f" {why}" if why else "")
        yield "error", what, "Run: zcplatform test_smtp --to YOUR-ADDRESS"
