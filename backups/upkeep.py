"""Cleaning up: the database's log and free pages, and what killed acts left below the home."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from audit.services import record
from backups import staging
from tenants.models import Node, Tenant
from tenants.runtimes import runtime_for
from tenants.states import Status
from zcplatform.lib.actors import Actor
from zcplatform.lib.contained import contained

TEMPORARY_S = 86_400.0
DAY_S = 86_400.0


def maintain(home: Path, *, vacuum: bool, actor: Actor) -> dict[str, Any]:
    """Write the log back into the database, remove leftovers and, with ``vacuum``, give free pages back to the disk,
    for which SQLite stops all writers and needs the database's size once more. Returns what was done."""
    before = _size()
    done: dict[str, Any] = {**clean(home), "log_written_back": checkpoint()}
    if vacuum:
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
        checkpoint()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA optimize" if connection.vendor == "sqlite" else "ANALYZE")
    done |= {"bytes_before": before, "bytes_after": _size()}
    with transaction.atomic():
        record("platform.upkeep", actor=actor, detail=done)
    return done


def clean(home: Path) -> dict[str, int]:
    """Remove what killed acts left; counts by kind. What may belong to somebody is left for ``doctor`` to tell."""
    files = list(temporary(home, older_than_s=TEMPORARY_S))
    for path in files:
        path.unlink(missing_ok=True)
    trash = [path for path in trash_of_nobody(home, before=time.time() - settings.TRASH_DAYS * DAY_S) if _purge(path)]
    return {"staged": staging.clear(home), "temporary": len(files), "trash": len(trash)}


def checkpoint() -> bool:
    """Write SQLite's log into its file and cut it to nothing; False when a reader kept some of it."""
    if connection.vendor != "sqlite":
        return True
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return cursor.fetchone()[0] == 0


def temporary(home: Path, *, older_than_s: float) -> Iterator[Path]:
    """Files that are written beside their place before they take it, and never did."""
    for folder in (home, Path(settings.KEYS_DIR), home / "restore", home / "caddy"):
        for path in folder.glob(".*.tmp"):
            if path.is_file() and time.time() - path.lstat().st_mtime > older_than_s:
                yield path


def folders_of_nobody(home: Path) -> list[Path]:
    """Tenants' folders that no living tenant has, such as those made after the backup that was restored."""
    known = {str(i) for i in Tenant.objects.exclude(status=Status.DELETED).values_list("public_id", flat=True)}
    return [path for path in _by_id(home / "tenants") if path.name not in known]


def trash_of_nobody(home: Path, *, before: float) -> list[Path]:
    """Folders in the trash that no row waits to have purged, not touched since ``before`` (seconds since 1970)."""
    waiting = Tenant.objects.filter(status=Status.DELETED, purged_at__isnull=True).values_list("public_id", flat=True)
    known = {str(i) for i in waiting}
    return [path for path in _by_id(home / "trash") if path.name not in known and path.lstat().st_mtime < before]


def _by_id(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            uuid.UUID(path.name)
        except ValueError:
            continue
        yield path


def _purge(path: Path) -> bool:
    """By the runtime of a node, which may reach what belongs to the agents' users."""
    node = Node.objects.exclude(state=Node.State.DISABLED).order_by("pk").first()

    def purge() -> bool:
        if node is None:
            shutil.rmtree(path)
        else:
            runtime_for(node).folders.purge(path)
        return True

    return contained(purge, False, what="a folder in the trash can't be purged", folder=path.name)


def _size() -> int:
    if connection.vendor != "sqlite":
        return 0
    path = Path(connection.settings_dict["NAME"])
    return sum(p.stat().st_size for p in (path, path.with_name(path.name + "-wal")) if p.exists())
