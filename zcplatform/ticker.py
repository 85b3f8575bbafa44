"""A thread of ``serve`` that sees to what is due: runs every second, the clusters' pulse and the lease every five."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from django.db import close_old_connections
from django.utils.module_loading import import_string

from zcplatform.pulse import ASK_EVERY_S, Pulse

DUE_RUNS = "tenants.tasks.enqueue_due_runs"
DUE_RUNS_EVERY_S = 1.0
log = logging.getLogger(__name__)


class Duty:
    """Something to do every so often. A failure is logged once, and so is the recovery: it may be tried for hours."""

    def __init__(self, name: str, act: Callable[[], object], every_s: float) -> None:
        self.name, self.act, self.every_s = name, act, every_s
        self.due_at = 0.0
        self.failing = False

    def perform(self) -> None:
        """Do it if it is due; never raises."""
        if time.monotonic() < self.due_at:
            return
        self.due_at = time.monotonic() + self.every_s
        try:
            close_old_connections()
            self.act()
        except Exception:
            if not self.failing:
                log.exception("%s fails; it is tried again every %.0f s", self.name, self.every_s)
            self.failing = True
            return
        if self.failing:
            log.warning("%s works again", self.name)
        self.failing = False


class Ticker(threading.Thread):
    """Not the supervisor's own loop: a locked database may hold this up for many seconds."""

    def __init__(self, pulses: list[Pulse], also: Iterable[Duty] = ()) -> None:
        super().__init__(name="ticker", daemon=True)
        self.duties = [Duty(DUE_RUNS, lambda: import_string(DUE_RUNS)(), DUE_RUNS_EVERY_S)]
        self.duties += [Duty(f"the pulse of {pulse.cluster}", pulse.ask, ASK_EVERY_S) for pulse in pulses]
        self.duties += also
        self._ending = threading.Event()

    def stop(self) -> None:
        """No duty begins after this; one that is under way is not waited for."""
        self._ending.set()

    def run(self) -> None:
        """Until ``stop``."""
        while not self._ending.wait(0.1):
            for duty in self.duties:
                duty.perform()
