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


def test_a_redirect_is_not_followed(listeners):
    port, elsewhere = listeners.open("302"), listeners.open()
    listeners.bodies[port] = f"http://127.0.0.1:{elsewhere}/".encode()
    assert ask([port])[0].status == 302
    assert listeners.asked[elsewhere] == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
def test_what_this_host_lacks_is_not_the_agents_failure(number):
    assert probing._why(OSError(number, os.strerror(number))) == "ours"
