"""The life of an alert and what is told of it, over any sequence of looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerting.machine import MAX_GAP, Life, Notice, State, Told, advance, notice

T0 = datetime(2026, 11, 25, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
HOLD, REPEAT = 3 * MINUTE, 10 * MINUTE

looks = st.lists(
    st.tuples(
        st.sampled_from([True, True, True, False, None]),  # the condition, or not known
        st.sampled_from([60, 60, 60, 61, 30, 299, 301, 3_600, -60, -3_600]),  # seconds until the look
        st.booleans(),  # silenced
    ),
    max_size=60,
)


def after(seen, hold=HOLD, life=None, start=T0):
    """The alert after one look a minute with these results."""
    for number, holds in enumerate(seen):
        life = advance(life, holds, hold_for=hold, now=start + number * MINUTE)
    return life


def wanted(state, told, *, now=T0, quiet=False, acked=False, repeat=REPEAT):
    return notice(state, told, quiet=quiet, acked=acked, repeat_every=repeat, now=now)


def test_it_fires_when_the_condition_held_long_enough_and_not_before():
    assert after([True, True, True]).state == State.PENDING
    assert after([True, True, True, True]).state == State.FIRING
    assert after([True], hold=timedelta(0)).state == State.FIRING


def test_a_condition_that_ends_in_time_was_nobodys_business():
    assert after([True, True, False]) is None
    assert after([True, True, False, True, True, True]).state == State.PENDING


def test_a_firing_one_resolves_at_the_first_look_that_finds_it_over():
    assert after([True] * 4 + [False]).state == State.RESOLVED


def test_what_is_not_known_changes_nothing():
    assert after([True, True, None]) == after([True, True])
    assert after([None, None]) is None
    assert after([True] * 4 + [None] * 9).state == State.FIRING


def test_r9_a_gap_or_a_clock_that_jumps_starts_a_pending_one_anew_and_leaves_a_firing_one():
    pending, firing = after([True, True]), after([True] * 4)
    for now in (T0 + HOUR, T0 - HOUR):
        anew = advance(pending, True, hold_for=HOLD, now=now)
        assert (anew.state, anew.since) == (State.PENDING, now)
        assert advance(firing, True, hold_for=HOLD, now=now).state == State.FIRING


def test_the_beginning_is_told_once_and_repeated_after_the_interval():
    assert wanted(State.PENDING, None) is None
    assert wanted(State.FIRING, None) == Notice.FIRE
    told = Told(Notice.FIRE, T0)
    assert wanted(State.FIRING, told, now=T0 + REPEAT - MINUTE) is None
    assert wanted(State.FIRING, told, now=T0 + REPEAT) == Notice.REPEAT
    assert wanted(State.FIRING, told, now=T0 + HOUR, acked=True) is None
    assert wanted(State.FIRING, told, now=T0 + HOUR, repeat=timedelta(0)) is None


def test_a_silence_holds_back_and_what_still_fires_afterwards_is_told_then():
    assert wanted(State.FIRING, None, quiet=True) is None
    assert wanted(State.FIRING, Told(Notice.FIRE, T0), now=T0 + HOUR, quiet=True) is None
    assert wanted(State.FIRING, None) == Notice.FIRE


def test_the_end_is_told_to_those_who_know_of_the_beginning_even_when_silenced():
    assert wanted(State.RESOLVED, Told(Notice.REPEAT, T0), quiet=True) == Notice.RESOLVE
    assert wanted(State.RESOLVED, None) is None
    assert wanted(State.RESOLVED, Told(Notice.RESOLVE, T0)) is None


@given(looks)
def test_over_any_looks_what_is_told_makes_sense(looks):
    """A story per alert: one FIRE, then REPEATs, then at most one RESOLVE; silence says nothing but the end; an alert
    fires only after it was seen holding for the whole time without a gap."""
    life, told, now, story = None, None, T0, []
    held_since, seen_at = None, None
    for holds, seconds, quiet in looks:
        now += timedelta(seconds=seconds)
        before = life
        life = advance(life, holds, hold_for=HOLD, now=now)
        if holds:
            gap = seen_at is None or not timedelta(0) <= now - seen_at <= MAX_GAP
            held_since = now if gap else held_since
            seen_at = now
        elif holds is False:
            held_since = seen_at = None
        if life and life.state == State.FIRING and not (before and before.state == State.FIRING):
            assert held_since is not None and now - held_since >= HOLD
            told, story = None, []
        if life is None:
            continue
        said = wanted(life.state, told, now=now, quiet=quiet)
        if said:
            assert not quiet or said == Notice.RESOLVE
            told = Told(said, now)
            story.append(said)
        assert story[:1] in ([], [Notice.FIRE])
        assert Notice.FIRE not in story[1:]
        assert Notice.RESOLVE not in story[:-1]
        if life.state == State.RESOLVED:
            assert not story or story[-1] == Notice.RESOLVE
            life, told, story = None, None, []
    assert life is None or isinstance(life, Life)


@given(st.lists(st.sampled_from([True, False, None]), max_size=40))
def test_a_look_twice_in_the_same_moment_is_a_look(seen):
    """Two evaluators that follow each other at once: the second changes nothing."""
    life = None
    for number, holds in enumerate(seen):
        now = T0 + number * MINUTE
        life = advance(life, holds, hold_for=HOLD, now=now)
        if life is not None and life.state != State.RESOLVED:
            assert advance(life, holds, hold_for=HOLD, now=now) == life
        elif life is not None:
            life = None
