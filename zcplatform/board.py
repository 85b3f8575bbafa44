"""What the workers of a cluster do: one small file each, ``made``, ``busy`` or ``idle``, touched at every change.

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

NEW, BUSY, IDLE = "made", "busy", "idle"  # of one length: see _write


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

    def check(self) -> None:
        """OSError where the workers could not write, on a full disk for instance: then their silence says nothing."""
        probe = self.folder / "probe"
        try:
            self._put(probe, IDLE)
        finally:
            probe.unlink(missing_ok=True)

    def busy(self) -> int:
        """How many living workers have a task."""
        return sum(1 for path in self._alive() if _read(path) == BUSY)

    def has_worked(self) -> bool:
        """True when a living worker has begun a task."""
        return any(_read(path) in (BUSY, IDLE) for path in self._alive())

    def changed_at(self) -> float:
        """When a worker was last made, or began or ended a task, in seconds of the file system's clock; 0 is never."""
        return max(map(_written_at, self._alive()), default=0.0)

    def under_way(self) -> set[tuple[str, str, int]]:
        """(worker, the task's function, a number that is another for its next task) of every busy worker."""
        found = set()
        for path in self._alive():
            with suppress(OSError):
                task = self.tasks_folder / path.name
                if _read(path) == BUSY:
                    found.add((path.name, task.read_text(), task.stat().st_mtime_ns))
        return found

    def _alive(self) -> list[Path]:
        alive = []
        for path in self.folder.glob("[0-9]*"):
            if Path("/proc", path.name).exists():
                alive.append(path)
            else:
                with suppress(OSError):
                    path.unlink(missing_ok=True)  # recycled or killed
        return alive

    def _write(self, state: str) -> None:
        """Over what stands there, which has the same length and so takes no room. A board that can't be written is
        never worth the task: the supervisor finds that out by itself (``check``)."""
        with suppress(OSError):
            self._put(self.folder / str(os.getpid()), state)

    @staticmethod
    def _put(path: Path, text: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)

    def _new(self, **_: Any) -> None:
        self._write(NEW)

    def _busy(self, task: dict[str, Any], **_: Any) -> None:
        from django_q.utils import get_func_repr  # not before the cluster has its name: the queue reads its settings

        with suppress(OSError):
            (self.tasks_folder / str(os.getpid())).write_text(get_func_repr(task["func"]))
        self._write(BUSY)

    def _idle(self, **_: Any) -> None:
        self._write(IDLE)


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""


def _written_at(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
