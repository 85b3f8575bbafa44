"""I11: what is known to be a secret is taken out of a text, whatever else happens meanwhile."""

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async

from zcplatform.lib import redact

SECRET = "canary-5f3a9c81d2e7"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(redact, "_made", OrderedDict())
    monkeypatch.setattr(redact, "_own", set())


class Interrupted(str):
    """A text during whose reading another thread remembers something."""

    def __contains__(self, part):
        redact.remember(f"of another thread: {part}")
        return super().__contains__(part)


def test_i11_secrets_that_are_remembered_meanwhile_do_not_stop_it():
    for number in range(3):
        redact.remember(f"{SECRET}-{number}")
    assert redact.scrub(Interrupted(f"before {SECRET}-1 after")) == "before *** after"


@pytest.mark.parametrize("order", [(SECRET, f"{SECRET}-and-more"), (f"{SECRET}-and-more", SECRET)])
def test_i11_of_a_secret_that_begins_with_another_nothing_stays(order):
    for value in order:
        redact.remember(value)
    assert redact.scrub(f"[{SECRET}-and-more] [{SECRET}]") == "[***] [***]"


def test_i11_many_made_ones_push_the_oldest_out_but_never_the_platforms_own():
    redact.remember(f"own-{SECRET}", for_good=True)
    redact.remember(f"first-{SECRET}")
    for number in range(redact.MAX_KNOWN):
        redact.remember(f"secret-{number}")
    assert redact.scrub(f"own-{SECRET} first-{SECRET} secret-0") == f"*** first-{SECRET} ***"


def test_i11_wrapping_a_value_makes_it_unknown_to_nobody_elses_text():
    redact.SecretStr(SECRET)
    assert redact.scrub(SECRET) == SECRET
    assert redact.scrub(SECRET, [redact.SecretStr(SECRET)]) == "***"
    assert redact.scrub("word", ["word"]) == "word", "too short to be told from a word"
    assert redact.censor({"note": SECRET, "bot_token": "x"}) == {"note": SECRET, "bot_token": "***"}


def test_i11_what_a_piece_of_work_has_in_hand_is_known_to_it_alone():
    def other():
        with redact.handling():
            redact.handle(redact.SecretStr(f"other-{SECRET}"))
            started.set()
            assert seen.wait(60)
            return redact.in_hand()

    started, seen = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool, redact.handling():
        beside = pool.submit(other)
        assert started.wait(60)
        redact.handle(redact.SecretStr(SECRET))
        assert redact.in_hand() == (SECRET,)
        seen.set()
        assert beside.result() == (f"other-{SECRET}",)
        with redact.handling():
            assert redact.in_hand() == ()
        assert redact.in_hand() == (SECRET,)
    redact.handle(redact.SecretStr(SECRET))
    assert redact.in_hand() == (), "outside a piece of work nothing is kept"


def test_i11_the_requests_of_one_server_do_not_know_each_others():
    async def request(value):
        with redact.handling():
            await sync_to_async(redact.handle, thread_sensitive=False)(redact.SecretStr(value))
            await asyncio.sleep(0)
            return redact.in_hand()

    async def both():
        return await asyncio.gather(request(f"a-{SECRET}"), request(f"b-{SECRET}"))

    assert asyncio.run(both()) == [(f"a-{SECRET}",), (f"b-{SECRET}",)]
