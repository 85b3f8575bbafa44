"""What must be right before ``serve`` starts anything. Each problem is one sentence that says what to do."""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TextIO

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from backups.aside import newest_migrations
from backups.errors import ArchiveRefused
from backups.examining import refuse_newer
from backups.folder import archives
from zcplatform.lib import serve_lock
from zcplatform.lib.addresses import authority
from zcplatform.lib.errors import Misconfigured

ROOM = 1_048_576
"""Bytes that must be free on the disk of the home: locks, the first files of each program, a transaction or two."""


def check() -> None:
    """Misconfigured when the disk is full, a key is missing, the database is lost, damaged, older or newer than the
    code, or a system check fails."""
    for problem in (_full_disk, _missing_keys, lost_database, unapplied_migrations, newer_migrations, _failing_checks):
        if message := problem():
            raise Misconfigured(message)


def _full_disk() -> str:
    """First of all: on a full disk the database can't even be opened, and would be taken for damaged."""
    home = Path(settings.HOME)
    free = os.statvfs(home)
    if (room := free.f_bavail * free.f_frsize) < ROOM:
        return f"The disk of {home} is full ({room // 1024} kB are free). Make room, then start again."
    return ""


def why_unwritable(error: OSError | DatabaseError) -> str:
    """A write that failed during the start, in one line."""
    path = getattr(error, "filename", None) or settings.HOME
    return f"Can't write below {path}: {getattr(error, 'strerror', None) or error}. Mend that, then start again."


def _missing_keys() -> str:
    missing = [name for name in ("SECRET_KEY", "JWT_KEY", "PEPPER", "INSTANCE") if not _setting(name)]
    if not Path(settings.VAULT_KEY_FILE).exists():
        missing.append(f"VAULT_KEY_FILE ({settings.VAULT_KEY_FILE})")
    return f"Missing keys: {', '.join(missing)}. A new installation needs: zcplatform bootstrap" if missing else ""


def lost_database() -> str:
    """What to do about a database that is damaged or gone, in one sentence; empty when it is neither.

    It is never quietly begun anew.
    """
    lost = database_damage() or ("It is not there." if database_is_gone() else "")
    if not lost:
        return ""
    known = archives(Path(settings.BACKUP_DIR))
    newest = f"The newest backup is {known[-1]}" if known else f"There is no backup in {settings.BACKUP_DIR}"
    return f"The database is lost: {lost} {newest}; see: zcplatform restore --help"


def database_is_gone() -> bool:
    """True when the vault has a key, which is made after the database, and SQLite has no file, or one without a table:
    whatever opens a database that is not there leaves such a file."""
    database = settings.DATABASES["default"]
    if not database["ENGINE"].endswith("sqlite3") or not Path(settings.VAULT_KEY_FILE).exists():
        return False
    path = Path(database["NAME"])
    return not path.exists() or path.stat().st_size == 0 or _has_no_table(path)


def _has_no_table(path: Path) -> bool:
    """False for what is damaged, which is told of elsewhere."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
            return bool(database.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])
    except sqlite3.Error:
        return False


def database_damage() -> str:
    """What SQLite itself finds wrong with its file; reads all of it (about 1 s for 500 MB that are in memory)."""
    if connection.vendor != "sqlite" or database_is_gone():
        return ""
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA quick_check")
            lines = [row[0] for row in cursor.fetchmany(3)]
    except DatabaseError as error:
        return "" if "locked" in str(error) else str(error)
    return "" if lines == ["ok"] else "; ".join(lines)


def newer_migrations() -> str:
    """What the database has that this code does not know, as after a step back to an older version."""
    try:
        refuse_newer(newest_migrations(DEFAULT_DB_ALIAS))
    except ArchiveRefused as error:
        return error.message.replace("The backup is", "The database is")
    except DatabaseError as error:
        return f"The database does not answer: {error}"
    return ""


def _setting(name: str) -> str:
    try:
        return str(getattr(settings, name))
    except ImproperlyConfigured:  # Django's answer to an empty SECRET_KEY
        return ""


def unapplied_migrations() -> str:
    """What the database lacks, in one sentence; empty when it is up to date."""
    try:
        executor = MigrationExecutor(connection)
    except DatabaseError as error:
        return f"The database does not answer: {error}"
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return ""
    names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan[:3])
    more = f" and {len(plan) - 3} more" if len(plan) > 3 else ""
    command = "upgrade" if executor.loader.applied_migrations else "bootstrap"
    return f"Unapplied migrations: {names}{more}. Run: zcplatform {command}"


def _failing_checks() -> str:
    """Those for deployment and those that ask the database too; warnings are for ``doctor`` to tell."""
    found = checks.run_checks(include_deployment_checks=True, databases=["default"])
    errors = [message for message in found if message.is_serious() and not message.is_silenced()]
    return "System checks fail:\n" + "\n".join(map(str, errors)) if errors else ""


def check_port(bind: str, port: int) -> None:
    """Misconfigured when the address can't be listened on, by us, now. ``bind`` may be IPv6, in brackets or without."""
    if not 1 <= port <= 65_535:
        raise Misconfigured(f"--port {port}: a port is 1 to 65535.")
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((bind.strip("[]"), port))
        except OSError as error:
            raise Misconfigured(f"Can't listen on {bind}:{port}: {error.strerror}.") from error


def check_routes_lead_to(bind: str, port: int) -> None:
    """Misconfigured when the router would send requests elsewhere: routes follow the settings, whoever writes them."""
    if settings.ROUTER == "caddy" and (bind, port) != (settings.BIND, settings.PORT):
        at = authority(settings.BIND, settings.PORT)
        raise Misconfigured(f"The router sends requests to {at}: set ZCPLATFORM_BIND and ZCPLATFORM_PORT instead.")


def lock(role: str) -> TextIO:
    """Take this home's lock for ``role`` (``web``, ``workers``); see ``serve_lock.take``."""
    return serve_lock.take(Path(settings.HOME), role)
