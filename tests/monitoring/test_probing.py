"""Asking many at once: what an answer is, and that nobody waits for anybody (M9)."""

from __future__ import annotations

import errno
import os

import pytest

from monitoring import probing
from monitoring.probing import Answer
from tests.tenants.runtimes.contract import free_port


def ask(ports, **limits):
    found = probing.ask(((port, f"http://127.0.0.1:{port}/health") for port in ports), lambda _k, a: a, **limits)
    return [found[port] for port in ports]


@pytest.mark.parametrize(
    ("mode", "answer"),
    [
        ("ok", Answer(200, b"{}")),
        ("503", Answer(503, b"{}")),
        ("hang", Answer(error="timeout")),
        ("drip", Answer(error="timeout")),
        ("drop", Answer(error="broken")),
        ("flood", Answer(error="too_large")),
    ],
)
def test_every_way_to_answer_has_its_word(listeners, mode, answer):
    assert ask([listeners.open(mode)]) == [answer]


def test_where_nobody_listens_it_is_refused(listeners):
    assert ask([free_port()]) == [Answer(error="refused")]


def test_m9_more_hung_ones_than_are_asked_at_once_hold_up_nobody_for_ever(listeners, monkeypatch):
    monkeypatch.setattr(probing, "AT_ONCE", 4)
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.2)
    hung, well = [listeners.open("hang") for _ in range(9)], [listeners.open() for _ in range(3)]
    answers = ask([*hung, *well])
    assert [a.error for a in answers] == ["timeout"] * 9 + [""] * 3


def test_m9_a_hundred_hung_ones_are_asked_at_the_same_time(listeners, monkeypatch):
    monkeypatch.setattr(probing, "TIMEOUT_S", 5)
    ports = [listeners.open("hang") for _ in range(120)]
    listeners.hold_until = 120  # they break off once so many stand at the same time, and not before
    assert {answer.error for answer in ask(ports)} == {"broken"}


def test_m9_hung_ones_cost_one_limit_together_however_many_they_are(listeners, monkeypatch):
    """Each of them leaves its place to the next; only all of them standing at the same time ends it."""
    monkeypatch.setattr(probing, "AT_ONCE", 2)
    monkeypatch.setattr(probing, "SLOW_S", 0.01)
    monkeypatch.setattr(probing, "TIMEOUT_S", 20)
    ports = [listeners.open("hang") for _ in range(40)]
    well = listeners.open()
    listeners.hold_until = 40
    *hung, last = ask([*ports, well])
    assert {answer.error for answer in hung} == {"broken"}
    assert last == Answer(200, b"{}")


def test_m9_all_that_hang_fit_into_the_descriptors_that_a_process_has_by_default():
    assert probing.AT_ONCE >= 100
    assert probing.AT_ONCE * probing.TIMEOUT_S / probing.SLOW_S <= 1_024 - 200


@pytest.mark.parametrize("mode", ["ok", "hang"])
def test_what_goes_wrong_with_an_answer_is_that_answers_and_no_others(listeners, monkeypatch, mode, caplog):
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.5)
    bad, well = listeners.open(mode), listeners.open()

    def take(key, answer):
        return 1 / (key - bad if answer.error != "senseless" else 1)

    found = probing.ask([(port, f"http://127.0.0.1:{port}/") for port in (bad, well)], take)
    assert found == {bad: 1, well: 1 / (well - bad)}
    assert "an answer can't be dealt with" in caplog.text


def test_a_key_that_nothing_can_be_made_of_is_left_out(listeners):
    assert probing.ask([(1, f"http://127.0.0.1:{listeners.open()}/")], lambda _key, _answer: 1 / 0) == {}


def test_a_redirect_is_not_followed(listeners):
    port, elsewhere = listeners.open("302"), listeners.open()
    listeners.bodies[port] = f"http://127.0.0.1:{elsewhere}/".encode()
    assert ask([port])[0].status == 302
    assert listeners.asked[elsewhere] == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
def test_what_this_host_lacks_is_not_the_agents_failure(number):
    assert probing._why(OSError(number, os.strerror(number))) == "ours"


def test_whatever_goes_wrong_in_the_asking_is_that_agents_and_no_others(listeners):
    well = listeners.open()
    nowhere = [(1, None), (2, "http://["), (3, "http://127.0.0.1:99999/"), (well, f"http://127.0.0.1:{well}/")]
    found = probing.ask(nowhere, lambda _key, answer: answer)
    assert [found[key].error for key in (1, 2, 3)] == ["broken"] * 3
    assert found[well] == Answer(200, b"{}")
