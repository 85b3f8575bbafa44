"""Named places where a test may break a real process: kill it, freeze it, make it raise, or hold it.

``ZC_FAILPOINT`` arms them: ``name=ACTION``; with ``@N`` only the Nth hit acts (``name=kill@2``), without it every hit;
several are parted by commas. Unarmed, a call is one look at an empty dict.

``raise`` is a bug, ``down`` a dependency that does not answer, ``lose`` one whose reply is lost after it acted,
``kill`` and ``freeze`` are SIGKILL and SIGSTOP to this process, ``sleep:SECONDS`` holds it, ``exit:CODE`` ends it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from zcplatform.lib.errors import DependencyDown, DependencyTimeout

ACTIONS = ("kill", "freeze", "raise", "down", "lose", "sleep", "exit")


class FailpointError(RuntimeError):
    """Raised by an armed ``raise``."""


@dataclass
class _Arm:
    action: str
    argument: str
    nth: int  # 0: every hit
    hits: int = 0

    def hit(self, name: str) -> None:
        self.hits += 1
        if self.nth and self.hits != self.nth:
            return
        if self.action in ("kill", "freeze"):
            os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)
        elif self.action == "raise":
            raise FailpointError(name)
        elif self.action == "down":
            raise DependencyDown(f"{name} does not answer.")
        elif self.action == "lose":
            raise DependencyTimeout(f"{name} did not answer in time.")
        elif self.action == "sleep":
            time.sleep(float(self.argument))
        else:
            os._exit(int(self.argument or 1))


def _parse(spec: str) -> dict[str, _Arm]:
    arms = {}
    for part in filter(None, (piece.strip() for piece in spec.split(","))):
        name, _, rest = part.partition("=")
        rest, _, nth = rest.partition("@")
        action, _, argument = rest.partition(":")
        if action not in ACTIONS:
            raise ValueError(f"ZC_FAILPOINT: {part!r} names no action of {', '.join(ACTIONS)}")
        arms[name] = _Arm(action, argument, int(nth or 0))
    return arms


_armed: dict[str, _Arm] = _parse(os.environ.get("ZC_FAILPOINT", ""))


def failpoint(name: str) -> None:
    """Do what is armed under ``name``; nothing otherwise."""
    if _armed and name in _armed:
        _armed[name].hit(name)


@contextmanager
def armed(spec: str) -> Iterator[None]:
    """Arm ``spec`` in this process inside the block; for tests."""
    global _armed
    before, _armed = _armed, _parse(spec)
    try:
        yield
    finally:
        _armed = before
