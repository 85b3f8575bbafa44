"""From counts that go up to what came since. Pure.

A counter belongs to a life of its agent, and another life counts from zero. Within one life it only grows: a smaller
value is a life that nobody named, and counting began anew there too. No value is no news: the last one stays, and
what came in the gap is in the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from tenants.agents.base import Counters

NAMES = tuple(counter.name for counter in fields(Counters))


@dataclass(frozen=True)
class Known:
    """The last value of each counter, and whose life it was counted in; "" where lives have no name."""

    life: str = ""
    values: Counters = field(default_factory=Counters)


def step(known: Known, life: str, now: Counters) -> tuple[Known, dict[str, int | None]]:
    """What to remember after this answer, and what came since the last one; None where there is no data."""
    same = life == known.life or not (life and known.life)
    kept = known.values if same else Counters()
    deltas = {name: _delta(getattr(kept, name), getattr(now, name)) for name in NAMES}
    values = {name: _newer(getattr(kept, name), getattr(now, name)) for name in NAMES}
    return Known(life or known.life, Counters(**values)), deltas


def _delta(was: int | None, now: int | None) -> int | None:
    if now is None:
        return None
    return now if was is None or now < was else now - was


def _newer(was: int | None, now: int | None) -> int | None:
    return was if now is None else now
