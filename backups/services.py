"""Backup, restore and drill: what commands, schedules and ``upgrade`` call."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from backups import drill, making, restoring
from backups.making import Made, Say
from backups.restoring import Restored
from zcplatform.lib.actors import Actor

__all__ = [
    "Made",
    "Restored",
    "backup",
    "backup_before_migrating",
    "restore",
    "restore_drill",
    "undo_restore",
    "verify",
]


def silent(_what: str, _done: int, _total: int) -> None:
    """Tells nobody."""


def backup(output: Path | None = None, *, keep: int = 0, say: Say = silent, actor: Actor) -> Made:
    """Write one archive into ``output`` (``BACKUP_DIR`` by default) and keep the newest ``keep`` (0: all).

    Writers go on meanwhile. Misconfigured ``loose_folder`` and what the vault says of its key file; Conflict
    ``backup_in_progress``; DependencyDown ``storage_full``, ``database_unavailable``. A failure leaves nothing under an
    archive's name, and is written down for alerts, unless it was about another folder than the scheduled one's.
    """
    return making.make(Path(output or settings.BACKUP_DIR), keep=keep, say=say, actor=actor)


def backup_before_migrating(*, say: Say = silent) -> Made:
    """An archive of a database that may be older than this code, into ``BACKUP_DIR``; raises as ``backup``. Nothing is
    written to the database; what restores it writes the audit row."""
    return making.archive_of(Path(settings.BACKUP_DIR), keep=0, say=say, behind=True)


def verify(archive: Path, *, say: Say = silent) -> Restored:
    """All that ``restore`` checks, with nothing changed; works while the platform runs. Raises as ``restore``."""
    return restoring.look(archive, say=say)


def restore(archive: Path, *, say: Say = silent, reason: str = "") -> Restored:
    """Put the archive's database, keys and configuration in the place of those of this home.

    The earlier ones stay until the next healthy start of ``serve``; ``undo_restore`` brings them back. The restored
    database holds the audit row. Conflict ``platform_running`` or ``restore_in_progress``; ArchiveRefused;
    Misconfigured for keys that don't open it or a place that can't be written. Before the swap nothing is changed, and
    a swap that was cut short is finished by whatever opens the home next.
    """
    return restoring.put_back(archive, say=say, reason=reason)


def undo_restore() -> None:
    """Bring back what the last restore or upgrade replaced. Conflict ``nothing_to_undo``, ``platform_running``."""
    restoring.undo()


def restore_drill(source: Path | None = None, *, say: Say = silent, actor: Actor) -> Restored:
    """Unpack the newest backup of ``source`` (``BACKUP_DIR`` by default) into a scratch place and look at everything;
    the outcome is written down for alerts. Raises as ``verify``."""
    return drill.drill(Path(source or settings.BACKUP_DIR), say=say, actor=actor)
