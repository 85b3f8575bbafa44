"""What the workers of a cluster are doing: one small file each, ``new``, ``busy`` or ``idle``, touched at every change.

The supervisor reads it to tell a cluster that is at work from one that has fallen silent. Files, not rows: the
answer must not depend on the database that the question is about.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from django.conf import settings

NEW, BUSY, IDLE = "new", "busy", "idle"


class Board:
    """The board of one cluster, under ``HOME/run/board``."""

    def __init__(self, cluster: str) -> None:
        self.folder = Path(settings.HOME) / "run" / "board" / cluster

    def clear(self) -> None:
        """Forget the workers of an earlier start."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)

    def follow(self) -> None:
        """Have the workers of this process's cluster write to the board."""
        from django_q import signals

        signals.post_spawn.connect(self._new, weak=False)
        signals.pre_execute.connect(self._busy, weak=False)
        signals.post_execute_in_worker.connect(self._idle, weak=False)

    def busy(self) -> int:
        """How many living workers have a task."""
        return sum(1 for path in self._alive() if path.read_text() == BUSY)

    def has_worked(self) -> bool:
        """True when a living worker has begun a task."""
        return any(path.read_text() in (BUSY, IDLE) for path in self._alive())

    def changed_at(self) -> float:
        """When a worker was last made, or began or ended a task, in seconds of the file system's clock; 0 is never."""
        return max((path.stat().st_mtime for path in self._alive()), default=0.0)

    def _alive(self) -> list[Path]:
        alive = []
        for path in self.folder.glob("[0-9]*"):
            if Path("/proc", path.name).exists():
                alive.append(path)
            else:
                path.unlink(missing_ok=True)  # recycled or killed
        return alive

    def _write(self, state: str) -> None:
        (self.folder / str(os.getpid())).write_text(state)

    def _new(self, **_: Any) -> None:
        self._write(NEW)

    def _busy(self, **_: Any) -> None:
        self._write(BUSY)

    def _idle(self, **_: Any) -> None:
        self._write(IDLE)
