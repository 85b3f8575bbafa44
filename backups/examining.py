"""What is looked at in an unpacked backup. Runs in a process of its own; see ``backups.staged``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, transaction
from django.db.migrations.loader import MigrationLoader

from audit.services import record
from backups import aside
from backups.errors import ArchiveRefused
from vault.services import unreadable, verify_keyring
from zcplatform.lib.actors import OPERATOR


def examine(order: dict[str, Any]) -> dict[str, Any]:
    """Refuses what can't be trusted, migrates what is older, tells what was found. ArchiveRefused, Misconfigured."""
    missing = [name for name in order["environment"] if not getattr(settings, name)]
    if missing:
        names = ", ".join(f"ZCPLATFORM_{name}" for name in missing)
        text = f"These keys came from the environment and are not in the archive; set them first: {names}"
        raise ArchiveRefused(text, type="archive_settings")
    try:
        return _examine(order)
    except DatabaseError as error:
        raise ArchiveRefused(f"Its database can't be used: {error}", type="archive_database_damaged") from error


def _examine(order: dict[str, Any]) -> dict[str, Any]:
    _check_integrity()
    refuse_newer(aside.newest_migrations(DEFAULT_DB_ALIAS))
    _check_rows(order["rows"])
    behind = _behind()
    if behind:
        call_command("migrate", verbosity=0, interactive=False)
    _check_references()
    verify_keyring()
    closed = unreadable()
    if order["note"] is not None:
        with transaction.atomic():
            record("platform.restore", actor=OPERATOR, detail=order["note"])
    _close()
    return {"migrated": behind, "unreadable": len(closed)}


def refuse_newer(applied: dict[str, str]) -> None:
    """ArchiveRefused ``archive_newer`` when a migration was applied that this code does not have."""
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    known = loader.disk_migrations
    for app, name in sorted(applied.items()):
        if (app, name) in known:
            continue
        newest = max((n for a, n in known if a == app), default="nothing")
        text = f"The backup is newer than this installation: {app} is at {name} there, and this code knows {newest}."
        raise ArchiveRefused(text, type="archive_newer")


def _behind() -> list[str]:
    """The migrations that the backup lacks."""
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def _check_integrity() -> None:
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check")
        lines = [row[0] for row in cursor.fetchmany(3)]
    if lines != ["ok"]:
        raise ArchiveRefused(f"Its database is damaged: {'; '.join(lines)}", type="archive_database_damaged")


def _check_references() -> None:
    try:
        connection.check_constraints()
    except DatabaseError as error:
        text = f"Rows of its database refer to what is not there: {error}"
        raise ArchiveRefused(text, type="archive_database_damaged") from error


def _check_rows(wanted: dict[str, int]) -> None:
    """As many as when it was made: another database with the right checksum would be caught here."""
    there = aside.row_counts(DEFAULT_DB_ALIAS)
    wrong = [table for table, count in wanted.items() if table in there and there[table] != count]
    if wrong:
        text = f"The number of rows in {', '.join(wrong[:3])} is not what the manifest says."
        raise ArchiveRefused(text, type="archive_database_damaged")


def _close() -> None:
    """Everything into the one file: a write-ahead log left beside it would not be taken along."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    if connection.vendor == "sqlite" and Path(f"{settings.DATABASES['default']['NAME']}-wal").exists():
        raise ArchiveRefused("Its database could not be closed.", type="archive_database_damaged")
