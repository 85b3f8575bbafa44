"""Addresses with a domain in any alphabet: taken, and one however they are spelled."""

from __future__ import annotations

import pytest

from accounts.emails import normalise_email
from accounts.models import Mail, User
from tenants import channels
from tests.factories import UserFactory
from zcplatform.lib.errors import InvalidField

BUECHER = "info@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "spelling",
    [
        "info@bücher.example",
        "INFO@BÜCHER.EXAMPLE",
        "info@bu\u0308cher.example",  # u and a combining diaeresis
        "info@bücher。example",  # the full stop of Chinese and Japanese
        " info@bücher.example\r\n",
        BUECHER,
        BUECHER.upper(),
    ],
)
def test_every_spelling_of_an_international_domain_is_one_address(spelling):
    assert normalise_email(spelling) == BUECHER


def test_letters_that_an_older_standard_folded_stay_another_domain():
    assert normalise_email("info@straße.example") == "info@xn--strae-oqa.example"
    assert normalise_email("info@straße.example") != normalise_email("info@strasse.example")


def test_a_lookalike_domain_is_not_the_one_it_looks_like():
    assert normalise_email("dana@exаmple.com") == "dana@xn--exmple-4nf.com"  # a Cyrillic а


@pytest.mark.parametrize(
    "address",
    [
        *("büro@bücher.example", "info@bücher..example", "info@-ü.example", "info@ü_.example", "info@💩.example"),
        *("ü@", "@ü", f"info@{'ü' * 64}.example", "info@ü\x00.example", "info@\u200fü.example", "info@bücher"),
    ],
)
def test_what_dns_could_not_hold_is_refused(address):
    with pytest.raises(InvalidField):
        normalise_email(address)


@pytest.mark.django_db
def test_an_account_is_found_by_either_spelling():
    user = User.objects.create_user(email="info@bücher.example")
    assert user.email == BUECHER
    assert User.objects.get_by_natural_key("Info@Bücher.example") == user


@pytest.mark.django_db
def test_a_code_goes_to_the_domain_as_mail_servers_know_it(client):
    UserFactory(email=BUECHER)
    answer = client.post("/api/auth/otp/request", {"email": "info@bücher.example"}, content_type="application/json")
    assert answer.status_code < 300, answer.content
    assert Mail.objects.get().recipient == BUECHER


def test_an_address_of_a_channel_is_stored_as_mail_servers_know_it():
    values = {
        "imap_host": "imap.example.com",
        "smtp_host": "smtp.example.com",
        "username": "Info",
        "password": "canary",
        "from_address": "Info@bücher.example",
        "allow_from": ["dana@example.com"],
    }
    config, _secrets = channels.validate("email", values)
    assert config["from_address"] == "Info@xn--bcher-kva.example"  # what stands before the @ is the server's own affair
