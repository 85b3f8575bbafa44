"""What the workers of a cluster are doing: one small file each, ``new``, ``busy`` or ``idle``, touched at every change.

The supervisor reads it to tell a cluster that is at work from one that has fallen silent, and a task that takes its
time from one that hangs. Files, not rows: the answer must not depend on the database that the question is about.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django_q.utils import get_func_repr

from zcplatform.lib.failpoints import failpoint

NEW, BUSY, IDLE = "new", "busy", "idle"


class Board:
    """The board of one cluster, under ``HOME/run/board``."""

    def __init__(self, cluster: str) -> None:
        self.folder = Path(settings.HOME) / "run" / "board" / cluster
        self.tasks_folder = self.folder.with_name(f"{cluster}-tasks")

    def clear(self) -> None:
        """Forget the workers of an earlier start."""
        for folder in (self.folder, self.tasks_folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, mode=0o700)

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

    def under_way(self) -> set[tuple[str, str, int]]:
        """(worker, the task's function, a number that is another for its next task) of every busy worker."""
        found = set()
        for path in self._alive():
            with suppress(OSError):
                task = self.tasks_folder / path.name
                if path.read_text() == BUSY:
                    found.add((path.name, task.read_text(), task.stat().st_mtime_ns))
        return found

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
        failpoint("worker.made")

    def _busy(self, task: dict[str, Any], **_: Any) -> None:
        with suppress(OSError):
            (self.tasks_folder / str(os.getpid())).write_text(get_func_repr(task["func"]))
        self._write(BUSY)

    def _idle(self, **_: Any) -> None:
        self._write(IDLE)
