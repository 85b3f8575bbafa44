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


def beyond(ahead: int, passed: int, counted: int | None, *, reborn: bool) -> tuple[int | None, int]:
    """Of what an agent counted since it last told, what the platform's own doors did not count; and by how much they
    are ahead of it from now on.

    ``passed`` came through the doors meanwhile, ``ahead`` is what they had counted before and the agent had not told:
    a message is counted at the door and by the agent in either order. What a life had not told when it ended it never
    tells: for one that is ``reborn`` it counts no more. Of what passed in between nobody can say in which life, so it
    is taken for the new one's: rather a message too few than one twice.
    """
    ahead = (0 if reborn else ahead) + passed
    if counted is None:
        return None, ahead
    return max(0, counted - ahead), max(0, ahead - counted)


def is_reborn(known: Known, life: str, now: Counters, name: str) -> bool:
    """Whether this counter began anew since it was last told."""
    if life and known.life and life != known.life:
        return True
    was, value = getattr(known.values, name), getattr(now, name)
    return was is not None and value is not None and bool(value < was)


def _delta(was: int | None, now: int | None) -> int | None:
    if now is None:
        return None
    return now if was is None or now < was else now - was


def _newer(was: int | None, now: int | None) -> int | None:
    return was if now is None else now
