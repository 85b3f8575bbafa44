"""The restore drill: the newest backup is unpacked into a scratch place and looked at, as a restore would."""

from __future__ import annotations

from pathlib import Path

from django.db import transaction

from audit.services import record
from backups import folder, restoring, results
from backups.errors import ArchiveRefused
from backups.making import Say
from backups.restoring import Restored
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Misconfigured, ZCError


def drill(source: Path, *, say: Say, actor: Actor) -> Restored:
    """See ``services.restore_drill``."""
    try:
        found = _look(source, say)
    except (ZCError, OSError) as error:
        kind = error.type if isinstance(error, ZCError) else "drill_failed"
        if results.counts(results.DRILL, source):
            results.note_failure(results.DRILL, f"{kind}: {error}")
        with transaction.atomic():
            record("platform.drill", actor=actor, outcome="failed", detail={"type": kind, "error": str(error)})
        raise
    with transaction.atomic():
        if results.counts(results.DRILL, source):
            results.note(results.DRILL, ok=True, detail=found.archive)
        detail = {"archive": Path(found.archive).name, "made_at": found.made_at, "migrated": found.migrated}
        record("platform.drill", actor=actor, detail=detail)
    return found


def _look(source: Path, say: Say) -> Restored:
    known = folder.archives(source)
    if not known:
        raise ArchiveRefused(f"There is no backup in {source}.", type="archive_missing")
    found = restoring.look(known[-1], say=say)
    if found.unreadable:
        text = f"Of the backup's secrets, {found.unreadable} can't be opened; rotate_key names them."
        raise Misconfigured(text, type="vault_tampered")
    return found
