"""When an agent that fails its probes is restarted, given up, or taken back. Pure, and told in turns of the sweep
instead of minutes, so that a clock that jumps neither condemns nor spares anybody.

A turn is 30 s: three strikes, then a restart; at least two minutes before the second, five before the third; none
beyond the third within an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

TURN_S = 30
STRIKES = 3
HOUR = 3600 // TURN_S
PAUSES = (0, 4, 10)
"""Turns that must lie between a restart and the one before it, by how many there were within the hour."""


class Verdict(StrEnum):
    """What one probe, or the trouble of the whole node, says."""

    OK = "ok"
    FAILING = "failing"
    UNKNOWN = "unknown"


class Act(StrEnum):
    NONE = "none"
    LOOK = "look"
    """Something has to be done, once it was looked at."""
    TAKE_BACK = "take_back"
    """A tenant in error answers again."""


@dataclass(frozen=True)
class Memory:
    """What is kept of a tenant between two turns; ``restarts`` are the numbers of the turns that asked for one."""

    strikes: int = 0
    successes: int = 0
    restarts: tuple[int, ...] = ()

    def recent(self, turn: int) -> tuple[int, ...]:
        return tuple(number for number in self.restarts if turn - HOUR < number <= turn)


def judge(memory: Memory, verdict: Verdict, *, in_error: bool, turn: int) -> tuple[Memory, Act]:
    """What to remember after this verdict, and what it calls for."""
    if verdict == Verdict.UNKNOWN:
        return replace(memory, strikes=0, successes=0), Act.NONE
    if verdict == Verdict.FAILING:
        memory = replace(memory, strikes=memory.strikes + 1, successes=0)
        return memory, Act.LOOK if memory.strikes >= STRIKES and not in_error else Act.NONE
    memory = replace(memory, strikes=0, successes=memory.successes + 1 if in_error else 0)
    steady = memory.successes >= STRIKES and len(memory.recent(turn)) < len(PAUSES)
    return memory, Act.TAKE_BACK if in_error and steady else Act.NONE


def is_starting(memory: Memory, *, age_s: float | None, grace_s: float) -> bool:
    """Whether the agent, started ``age_s`` ago by the engine's word, may still be on its way. An age that makes no
    sense (the clock was put back) counts as young, but no longer than the grace lasts in turns."""
    if memory.strikes >= STRIKES + -(-grace_s // TURN_S):
        return False
    return age_s is not None and age_s < grace_s


def may_restart(memory: Memory, turn: int) -> bool | None:
    """True: now; False: not before the pause is over; None: not again within this hour."""
    recent = memory.recent(turn)
    if len(recent) >= len(PAUSES):
        return None
    return not recent or turn - recent[-1] >= PAUSES[len(recent)]


def restarted(memory: Memory, turn: int) -> Memory:
    return Memory(restarts=(*memory.recent(turn), turn))
