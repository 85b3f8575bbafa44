"""Listens to what the engines tell, so that what is done to an agent behind our back is mended in seconds.

A thread for each node that has an engine; what it hears is handed to the queue once a second, as tenants to look at.
Where an engine tells nothing, or can't be reached, the sweep still finds everything, only later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict

from django_q.tasks import async_task

from monitoring import heartbeats
from tenants.models import Node
from tenants.runtimes import runtime_for
from tenants.runtimes.base import Happening
from zcplatform.lib.errors import FaultError

SWEEPS = "sweeps"
HAND_ON_EVERY_S = 1.0
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
PACE_S = 5.0
"""Nobody is looked at more often than so, whatever is told of them: an agent can have the engine tell something, such
as the end of a process for want of memory, ten times a second and for ever."""
MOST = 1_000
"""So many happenings of a node are kept between two turns; when there are more, all of it is looked at instead."""
log = logging.getLogger(__name__)


class Listener(threading.Thread):
    """Follows one node's engine, for as long as the process lives."""

    def __init__(self, node: Node) -> None:
        super().__init__(name=f"engine of {node.name}", daemon=True)
        self.node = node
        self.failing = False
        self._heard: set[Happening] = set()
        self._taken: dict[Happening, float] = {}
        self._lost = False
        self._lock = threading.Lock()

    def run(self) -> None:
        """Never ends by itself; after a break it has everything looked at, since it may have missed something."""
        pause = PAUSE_S
        while True:
            began = time.monotonic()
            try:
                self._follow()
            except Exception as error:
                self._tell(error)
                self._lost = True
            pause = PAUSE_S if time.monotonic() - began > LONGEST_PAUSE_S else min(2 * pause, LONGEST_PAUSE_S)
            time.sleep(pause if self.failing else PAUSE_S)

    def _follow(self) -> None:
        for happening in runtime_for(self.node).watch():
            self.failing = False
            if happening is not None:
                self.add(happening)

    def add(self, happening: Happening) -> None:
        with self._lock:
            self._heard.add(happening)
            if len(self._heard) > MOST:
                self._heard.clear()
                self._lost = True

    def take(self) -> tuple[list[Happening], bool]:
        """What was heard since the last call, and whether something may have been missed. What was taken a moment ago
        already comes later."""
        with self._lock:
            now = time.monotonic()
            self._taken = {happening: at for happening, at in self._taken.items() if now - at < PACE_S}
            heard = self._heard - self._taken.keys()
            self._heard -= heard
            self._taken.update(dict.fromkeys(heard, now))
            lost, self._lost = self._lost and not self.failing, self._lost and self.failing
        return sorted(heard), lost

    def _tell(self, error: Exception) -> None:
        if not self.failing:
            text = error.message if isinstance(error, FaultError) else f"{type(error).__name__}: {error}"
            log.warning("the engine's events can't be followed", extra={"node": self.node.name, "error": text})
        self.failing = True


class EngineWatch:
    """All listeners. ``hand_on`` is a duty of the ticker."""

    def __init__(self) -> None:
        self.listeners: dict[int, Listener] = {}

    def hand_on(self) -> None:
        """Listen to nodes that are new, and have the workers look at what was heard. While they have not come to what
        waits for them, what is heard is kept: else looks would pile up before the sweeps, mails and alerts."""
        for node in Node.objects.exclude(state=Node.State.DISABLED).filter(runtime="docker"):
            if node.pk not in self.listeners:
                self.listeners[node.pk] = Listener(node)
                self.listeners[node.pk].start()
        if heartbeats.is_waiting(SWEEPS):
            return
        for pk, listener in self.listeners.items():
            heard, lost = listener.take()
            if lost:
                async_task("tenants.tasks.reconcile_sweep", cluster=SWEEPS, task_name="sweep")
            elif heard:
                self._look_at(pk, heard)

    @staticmethod
    def _look_at(node: int, heard: list[Happening]) -> None:
        by: dict[str, list[str]] = defaultdict(list)
        for happening in heard:
            by["tenants" if happening.tenant else "agents"].append(happening.tenant or happening.agent)
        async_task("tenants.tasks.look_at", node, by["tenants"], by["agents"], cluster=SWEEPS, task_name="look")
