"""Counters into hours: over anything that can happen to an agent, its answers and the clock (R9)."""

from __future__ import annotations

from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from monitoring import deltas
from monitoring.deltas import Known
from tenants.agents.base import Counters

# What happens between two turns: the agent works, is started anew, is not reached, or is asked twice.
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("work"), st.integers(0, 10**6)),
        st.tuples(st.sampled_from(["restart", "gap", "again", "silent"]), st.just(0)),
    ),
    max_size=60,
)


@given(happenings, st.booleans())
def test_the_deltas_are_what_was_counted_in_every_life_up_to_its_last_answer(found, named):
    """What a life counted after it was last asked is lost with it; nothing else is, and nothing comes twice."""
    life, counter, seen, earlier, told = 0, 0, 0, 0, 0
    known = Known()
    for what, amount in found:
        if what == "restart":
            life, counter, earlier, seen = life + 1, 0, earlier + seen, 0
            if not named:
                # A life without a name is only told by a smaller count, so let it be asked while it has none.
                known, step = deltas.step(known, "", Counters(messages_in=0))
                told += step["messages_in"] or 0
            continue
        counter += amount
        if what == "gap":
            continue
        counts = Counters() if what == "silent" else Counters(messages_in=counter)
        for _ in range(2 if what == "again" else 1):
            known, step = deltas.step(known, f"life {life}" if named else "", counts)
            told += step["messages_in"] or 0
        seen = seen if what == "silent" else counter
    assert told == earlier + seen


def test_no_data_is_none_and_not_zero():
    known, step = deltas.step(Known("a", Counters(messages_in=5)), "a", Counters(messages_in=5))
    assert step == {"messages_in": 0, "messages_out": None, "tokens_in": None, "tokens_out": None}
    known, step = deltas.step(known, "a", Counters())
    assert set(step.values()) == {None}
    assert known.values.messages_in == 5


def test_a_series_that_appears_after_its_first_use_counts_from_zero():
    known, _ = deltas.step(Known(), "a", Counters(messages_in=1))
    _, step = deltas.step(known, "a", Counters(messages_in=1, tokens_in=40))
    assert step["tokens_in"] == 40


def test_a_new_life_counts_from_zero_even_when_it_is_already_further():
    known, _ = deltas.step(Known(), "a", Counters(tokens_out=10))
    known, step = deltas.step(known, "b", Counters(tokens_out=25))
    assert step["tokens_out"] == 25
    assert asdict(known.values)["messages_in"] is None


def test_a_life_whose_name_becomes_known_is_no_other_life():
    known, _ = deltas.step(Known(), "", Counters(messages_in=10))
    known, step = deltas.step(known, "a", Counters(messages_in=12))
    assert step["messages_in"] == 2
    known, step = deltas.step(known, "", Counters(messages_in=13))
    assert (step["messages_in"], known.life) == (1, "a")
