"""Queue entry points. A failure has been written down when it is raised; the queue's own table keeps it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings

from backups import services, upkeep
from zcplatform.lib.actors import SYSTEM


def backup() -> str:
    """The scheduled backup."""
    return services.backup(keep=settings.BACKUP_KEEP, actor=SYSTEM).path


def drill() -> str:
    """The scheduled restore drill."""
    return services.restore_drill(actor=SYSTEM).archive


def upkeep_home() -> dict[str, Any]:
    """The nightly cleaning-up; without a vacuum, which stops the writers."""
    return upkeep.maintain(Path(settings.HOME), vacuum=False, actor=SYSTEM)
