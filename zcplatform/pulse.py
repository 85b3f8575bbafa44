"""Tells a cluster that works, or is merely busy, from one that has fallen silent.

A killed worker that was waiting for the next task takes the lock of the queue with it, and the cluster stands still
while every other process of it lives. So each cluster is asked: something must lie in its queue, a beat if nothing
else does, and a worker must take it up. Why not simply the age of a heartbeat: docs/adr/0004-queue.md.

A task that has begun and does not end is told of too: the other workers beat, and a cluster whose workers all hang is
busy.

A cluster that was just started is slow for as long as the machine is busy, and to kill it for that only makes the
machine busier. Until its first task, which shows that all of its processes are there, it is not silent but starting.
"""

from __future__ import annotations

import time

from monitoring import heartbeats
from zcplatform import schedules
from zcplatform.board import Board

ASK_EVERY_S = 5.0
PATIENCE_S = 30.0
START_S = 300.0  # until its first task; a start takes seconds, but a minute and more where everything starts at once


class Pulse:
    """The pulse of one cluster of ``workers`` workers. ``ask`` may raise what the database raises, and OSError: a
    cluster whose workers can't write to their board can't be judged by it."""

    def __init__(self, cluster: str, workers: int, board: Board) -> None:
        self.cluster, self.workers, self.board = cluster, workers, board
        self.reset()

    def reset(self) -> None:
        """The cluster was started anew."""
        self._seen = 0.0
        self._has_worked = False
        self._waiting_since: float | None = None
        self._begun: dict[tuple[str, str, int], float] = {}

    def ask(self) -> None:
        """Note what has happened since the last call, and see to it that something waits to be taken up."""
        waiting_since, self._waiting_since = self._waiting_since, None  # what can't be asked can't be judged
        self.board.check()
        heartbeats.note_late(self._late())
        waiting = heartbeats.is_waiting(self.cluster)
        if self._has_moved():
            waiting_since = None
            if waiting:
                heartbeats.beat(self.cluster)  # its own beat stands in line behind real work
        if not waiting:
            heartbeats.ask(self.cluster)
        self._waiting_since = time.monotonic() if waiting_since is None else waiting_since

    def _late(self) -> list[str]:
        """The functions of the tasks that have been under way for longer than theirs may, by our own clock."""
        now = time.monotonic()
        self._begun = {task: self._begun.get(task, now) for task in self.board.under_way()}
        return sorted({task[1] for task, since in self._begun.items() if now - since > schedules.longest_s(task[1])})

    def is_silent(self) -> bool:
        """True when something has waited for longer than the patience and no worker has moved."""
        since, patience = self._waiting_since, PATIENCE_S if self._has_worked else START_S
        return since is not None and time.monotonic() - since > patience

    def _has_moved(self) -> bool:
        """Whether a worker has begun or ended a task. One that was only just made may find nobody to give it any."""
        self._has_worked = self._has_worked or self.board.has_worked()
        before, self._seen = self._seen, self.board.changed_at()
        return self._has_worked and (self._seen != before or self.board.busy() >= self.workers)
