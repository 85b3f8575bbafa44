"""The database as it was at one moment, while others write to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, transaction

from backups import aside, manifest
from zcplatform.lib import postgres
from zcplatform.lib.errors import DependencyDown

BUSY_S = 30.0


@dataclass(frozen=True)
class Snapshot:
    """``using`` reads what was copied, while the block of ``taken`` lasts."""

    name: str
    using: str


@contextmanager
def taken(folder: Path) -> Iterator[Snapshot]:
    """Copy the database into ``folder``. DependencyDown ``storage_full`` or ``database_unavailable``."""
    if connection.vendor == "postgresql":
        with _postgres(folder) as snapshot:
            yield snapshot
        return
    path = folder / manifest.SQLITE
    copy_sqlite(Path(settings.DATABASES["default"]["NAME"]), path)
    with aside.sqlite_file(path) as alias:
        yield Snapshot(path.name, alias)


def copy_sqlite(source: Path, target: Path) -> None:
    """SQLite's own online backup in one step: in several, every write would make it begin anew, and it would never end
    on a busy database. Readers and writers go on meanwhile."""
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)) as original,
            closing(sqlite3.connect(target)) as copy,
        ):
            target.chmod(0o600)
            copy.execute("PRAGMA synchronous=OFF")  # made durable as a whole, below
            original.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        full = "full" in str(error) or "disk I/O" in str(error)
        text = f"The database can't be copied: {error}."
        raise DependencyDown(text, type="storage_full" if full else "database_unavailable") from error
    with target.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _postgres(folder: Path) -> Iterator[Snapshot]:
    """One transaction shows pg_dump and us the same rows."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT pg_export_snapshot()")
            exported = cursor.fetchone()[0]
        path = folder / manifest.POSTGRES
        postgres.dump(settings.DATABASE_URL, path, snapshot=exported)
        path.chmod(0o600)
        yield Snapshot(path.name, DEFAULT_DB_ALIAS)
