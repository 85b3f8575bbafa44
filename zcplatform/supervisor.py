"""Keeps the platform's programs running: starts them, restarts what died or fell silent, drains them at the end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zcplatform import leash, notify
from zcplatform.programs import Program

LOOK_EVERY_S = 0.2
DRAIN_S = 30.0
LONGEST_BACKOFF_S = 30.0
STEADY_S = 60.0
log = logging.getLogger(__name__)


class Child:
    """One running program. It leads a process group of its own, so that what it leaves behind can be killed."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.failures = 0
        self.start_at = 0.0
        self.ready = False
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Must be called from the main thread: the kernel ties the child to the thread that started it."""
        self.ready, self.started_at = False, time.monotonic()
        self.program.prepare()
        if self.program.pulse:
            self.program.pulse.reset()
        leashed = [sys.executable, "-I", "-S", str(Path(leash.__file__)), str(os.getpid()), *self.program.argv]
        self.process = subprocess.Popen(leashed, env=self.program.env, stdin=subprocess.DEVNULL, process_group=0)

    def has_ended(self) -> bool:
        """True once the program's first process is dead; it stays a zombie, so its ids can't be reused yet."""
        if self.process is None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def has_become_ready(self) -> bool:
        """True once; a file that can't be read just now tells nothing."""
        with suppress(OSError):
            return not self.ready and self.program.is_ready()
        return False

    def ask_to_end(self) -> None:
        """SIGTERM to the first process only: a cluster's others would drop their work instead of finishing it."""
        if self.process is not None and not self.has_ended():
            os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group at once and forget it."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def back_off(self) -> float:
        """Seconds until the next start: 1, 2, 4 ... 30, and 1 again after a minute of running."""
        steady = time.monotonic() - self.started_at >= STEADY_S
        self.failures = 1 if steady else self.failures + 1
        delay = min(LONGEST_BACKOFF_S, 2.0 ** (self.failures - 1))
        self.start_at = time.monotonic() + delay
        return delay


class Supervisor:
    """Runs ``programs`` until SIGTERM, SIGINT or SIGHUP. The first signal drains, the second ends it at once.

    The router, when there is one, is the last program and is ended after the others. ``on_healthy`` is called whenever
    everything has become ready.
    """

    def __init__(
        self, programs: list[Program], say: Callable[[str], None], on_healthy: Callable[[], object] = lambda: None
    ) -> None:
        self.children = [Child(program) for program in programs]
        self.say = say
        self.on_healthy = on_healthy
        self.signals = 0

    def run(self) -> None:
        """Returns when everything has ended; nothing that was started is left behind."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            while not self.signals:
                self._look()
                notify.send("WATCHDOG=1")
                time.sleep(LOOK_EVERY_S)
            self._drain()
        finally:
            for child in self.children:
                child.kill()

    def _on_signal(self, *_: object) -> None:
        self.signals += 1

    def _look(self) -> None:
        for child in self.children:
            if child.process is None:
                if time.monotonic() >= child.start_at:
                    self._start(child)
            elif child.has_ended():
                self._restart(child, "has ended")
            elif child.program.pulse and child.program.pulse.is_silent():
                self._restart(child, "has fallen silent")
            elif child.has_become_ready():
                self._became_ready(child)

    def _start(self, child: Child) -> None:
        """What one program lacks, such as room on the disk for its first file, is never the end of the others."""
        try:
            child.start()
        except Exception as error:
            delay = child.back_off()
            log.error("%s could not be started: %s; trying again in %.0f s", child.program.name, error, delay)

    def _restart(self, child: Child, why: str) -> None:
        child.kill()
        log.error("%s %s; starting it again in %.0f s", child.program.name, why, child.back_off())

    def _became_ready(self, child: Child) -> None:
        child.ready = True
        self.say(child.program.ready_line)
        try:
            child.program.on_ready()
        except Exception:
            log.exception("%s is ready, but what follows from that failed", child.program.name)
        if all(other.ready for other in self.children):
            notify.send("READY=1")
            self.on_healthy()

    def _drain(self) -> None:
        notify.send("STOPPING=1")
        self.say("stopping: finishing what is under way")
        until = time.monotonic() + DRAIN_S
        router = [child for child in self.children if child.program.name == "caddy"]
        self._end([child for child in self.children if child not in router], until)
        self._end(router, min(until, time.monotonic() + 2))

    def _end(self, children: list[Child], until: float) -> None:
        for child in children:
            child.ask_to_end()
        while self.signals < 2 and time.monotonic() < until and not all(child.has_ended() for child in children):
            time.sleep(LOOK_EVERY_S / 4)
