"""The life of an alert and what each notifier is told of it: two pure functions over plain values.

An alert is pending while the rule's condition holds but not yet for long enough, firing after that, and resolved when
the condition no longer holds. Who is told, when and how often is decided for each notifier on its own, so that a
silence of one, a new one, or one that was away misses nothing and hears nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import models

MAX_GAP = timedelta(minutes=5)
"""A pending alert that nobody has looked at for longer starts its time anew: what was in between is not known."""


class State(models.TextChoices):
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Notice(models.TextChoices):
    """What a notifier is told."""

    FIRE = "fire"
    REPEAT = "repeat"
    RESOLVE = "resolve"
    TEST = "test"


@dataclass(frozen=True)
class Life:
    """Where an alert stands: ``since`` when its condition began to hold, ``seen_at`` when that was last seen."""

    state: State
    since: datetime
    seen_at: datetime


@dataclass(frozen=True)
class Told:
    """The last thing a notifier was told of an alert, and when."""

    notice: Notice
    at: datetime


def advance(life: Life | None, holds: bool | None, *, hold_for: timedelta, now: datetime) -> Life | None:
    """The alert after one more look. ``holds`` is None when it can't be told: then nothing changes.

    None when there is no alert: a pending one whose condition holds no longer was never anybody's business. A clock
    that jumps, either way, starts a pending alert's time anew and lets a firing one be.
    """
    if holds is None:
        return life
    if not holds:
        return replace(life, state=State.RESOLVED, seen_at=now) if life and life.state == State.FIRING else None
    if life is None or (life.state == State.PENDING and not timedelta(0) <= now - life.seen_at <= MAX_GAP):
        life = Life(State.PENDING, since=now, seen_at=now)
    long_enough = now - life.since >= hold_for
    return replace(life, state=State.FIRING if long_enough else life.state, seen_at=now)


def notice(
    state: State, told: Told | None, *, quiet: bool, acked: bool, repeat_every: timedelta, now: datetime
) -> Notice | None:
    """What a notifier is to be told now, if anything. ``quiet``: it is silenced. No ``repeat_every``: no repeats.

    The end is told to whoever was told of the beginning, silenced or not: an incident opened elsewhere is closed there.
    """
    if state == State.RESOLVED:
        return Notice.RESOLVE if told and told.notice != Notice.RESOLVE else None
    if state != State.FIRING or quiet:
        return None
    if told is None:
        return Notice.FIRE
    due = bool(repeat_every) and not acked and not timedelta(0) <= now - told.at < repeat_every
    return Notice.REPEAT if due else None
