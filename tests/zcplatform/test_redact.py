"""I11: what is known to be a secret is taken out of a text, whatever else happens meanwhile."""

from collections import OrderedDict

import pytest

from zcplatform.lib import redact

SECRET = "canary-5f3a9c81d2e7"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(redact, "_known", OrderedDict())
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


def test_i11_many_secrets_of_tenants_push_the_oldest_out_but_never_the_platforms_own():
    redact.remember(f"own-{SECRET}", for_good=True)
    redact.remember(f"first-{SECRET}")
    for number in range(redact.MAX_KNOWN):
        redact.remember(f"secret-{number}")
    assert redact.scrub(f"own-{SECRET} first-{SECRET} secret-0") == f"*** first-{SECRET} ***"
