"""Tells a cluster that works, or is merely busy, from one that has fallen silent.

A killed worker that was waiting for the next task takes the lock of the queue with it, and the cluster stands still
while every other process of it lives. So each cluster is asked: something must lie in its queue, a beat if nothing
else does, and a worker must take it up. Why not simply the age of a heartbeat: docs/adr/0004-queue.md.
"""

from __future__ import annotations

import time

from monitoring import heartbeats
from zcplatform.board import Board

ASK_EVERY_S = 5.0
PATIENCE_S = 30.0
START_S = 60.0  # a cluster that has only just been started may take longer on a busy machine


class Pulse:
    """The pulse of one cluster of ``workers`` workers. ``ask`` may raise what the database raises, and OSError: a
    cluster whose workers can't write to their board can't be judged by it."""

    def __init__(self, cluster: str, workers: int, board: Board) -> None:
        self.cluster, self.workers, self.board = cluster, workers, board
        self.reset()

    def reset(self) -> None:
        """The cluster was started anew."""
        self._seen = 0.0
        self._waiting_since: float | None = None

    def ask(self) -> None:
        """Note what has happened since the last call, and see to it that something waits to be taken up."""
        waiting_since, self._waiting_since = self._waiting_since, None  # what can't be asked can't be judged
        self.board.check()
        waiting = heartbeats.is_waiting(self.cluster)
        if self._has_moved():
            waiting_since = None
            if waiting:
                heartbeats.beat(self.cluster)  # its own beat stands in line behind real work
        if not waiting:
            heartbeats.ask(self.cluster)
        self._waiting_since = time.monotonic() if waiting_since is None else waiting_since

    def is_silent(self) -> bool:
        """True when something has waited for longer than the patience and no worker has moved."""
        since, patience = self._waiting_since, PATIENCE_S if self._seen else START_S
        return since is not None and time.monotonic() - since > patience

    def _has_moved(self) -> bool:
        before, self._seen = self._seen, self.board.changed_at()
        return self._seen != before or self.board.busy() >= self.workers
