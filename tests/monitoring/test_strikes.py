"""The judgement over many turns: strikes, pauses, the cap, and no clock anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import strikes
from monitoring.strikes import Act, Memory, Verdict

verdicts = st.lists(st.sampled_from(Verdict), max_size=300)


def play(found, memory=None, first=1):
    """What a run of verdicts leads to, restarts done as soon as they are allowed: (turns of restarts, gave up)."""
    memory, done = memory or Memory(), []
    for turn, verdict in enumerate(found, first):
        memory, act = strikes.judge(memory, verdict, in_error=False, turn=turn)
        if act == Act.LOOK:
            allowed = strikes.may_restart(memory, turn)
            if allowed is None:
                return done, turn
            if allowed:
                memory = strikes.restarted(memory, turn)
                done.append(turn)
    return done, None


def test_three_strikes_and_not_two_call_for_an_act():
    assert play([Verdict.FAILING] * 2) == ([], None)
    assert play([Verdict.FAILING] * 3) == ([3], None)
    assert play([Verdict.FAILING, Verdict.FAILING, Verdict.OK] * 20) == ([], None)


def test_one_that_never_works_is_restarted_three_times_with_pauses_and_then_given_up():
    restarts, gave_up = play([Verdict.FAILING] * 100)
    assert restarts == [3, 7, 17]
    assert gave_up == 20


def test_one_that_fails_once_an_hour_is_restarted_each_time():
    day = ([Verdict.FAILING] * 3 + [Verdict.OK] * strikes.HOUR) * 24
    restarts, gave_up = play(day)
    assert (len(restarts), gave_up) == (24, None)


def test_trouble_of_the_node_wipes_the_strikes_and_never_counts():
    assert play([Verdict.FAILING, Verdict.FAILING, Verdict.UNKNOWN] * 50) == ([], None)
    assert play([Verdict.UNKNOWN] * 500) == ([], None)


@given(verdicts)
def test_restarts_never_come_closer_than_the_pauses_nor_oftener_than_the_cap(found):
    restarts, _ = play(found)
    for position, turn in enumerate(restarts):
        within = [other for other in restarts[:position] if turn - other < strikes.HOUR]
        assert len(within) < len(strikes.PAUSES)
        assert not within or turn - within[-1] >= strikes.PAUSES[len(within)]
        assert found[turn - strikes.STRIKES : turn] == [Verdict.FAILING] * strikes.STRIKES


def in_error(found, memory):
    acts = []
    for turn, verdict in enumerate(found, 1_000):
        memory, act = strikes.judge(memory, verdict, in_error=True, turn=turn)
        acts.append(act)
    return acts


def test_one_in_error_is_taken_back_after_three_good_answers_and_is_not_restarted_meanwhile():
    assert in_error([Verdict.FAILING] * 9, Memory(strikes=3)) == [Act.NONE] * 9
    assert in_error([Verdict.OK] * 3, Memory()) == [Act.NONE, Act.NONE, Act.TAKE_BACK]
    assert Act.TAKE_BACK not in in_error([Verdict.OK, Verdict.OK, Verdict.FAILING] * 9, Memory())


def test_one_that_used_up_its_restarts_is_taken_back_only_when_the_hour_is_over():
    spent = Memory(restarts=(985, 990, 995))
    acts = in_error([Verdict.OK] * strikes.HOUR, spent)
    assert acts.index(Act.TAKE_BACK) == 985 + strikes.HOUR - 1_000


@pytest.mark.parametrize(("age_s", "starting"), [(1, True), (9.9, True), (11, False), (None, False), (-3_600, True)])
def test_r9_the_grace_is_by_age_and_a_clock_put_back_does_not_stretch_it(age_s, starting):
    assert strikes.is_starting(Memory(strikes=3), age_s=age_s, grace_s=10) is starting
    assert strikes.is_starting(Memory(strikes=4), age_s=age_s, grace_s=10) is False
