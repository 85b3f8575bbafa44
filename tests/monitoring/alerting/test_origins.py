"""A notifier's secret stays with the address that it was entered for: nothing is signed with it for another."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import pkgutil
from ipaddress import ip_network

import pytest
from django.apps import apps

from monitoring import migrations
from monitoring.alerting import contacts
from monitoring.alerting.deliver import send_due
from monitoring.alerting.message import test_message as made_up
from monitoring.alerting.models import Delivery, Notifier
from monitoring.alerting.notifiers import known_kinds
from tests import outside
from vault.models import Secret
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import InvalidField

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "a-signing-secret-of-the-test"


@pytest.fixture(autouse=True)
def _loopback(settings, vault_key):
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)


def made_for(server):
    config = {"url": outside.url(server, path="/hook"), "secret": SECRET}
    made = contacts.create_notifier(actor=OPERATOR, tenant=None, kind="webhook", name="ops", config=config)
    return made.notifier


def change(notifier, **changes):
    return contacts.update_notifier(actor=OPERATOR, notifier=notifier, changes=changes)


def signed_with(seen, secret):
    content = seen.headers["X-Zcplatform-Timestamp"].encode() + b"." + seen.body
    mac = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
    return seen.headers["X-Zcplatform-Signature"] == f"v1={mac}"


def test_nothing_is_signed_for_another_address_until_the_secret_is_entered_again():
    with outside.server() as owners, outside.server() as thief:
        notifier = made_for(owners)
        waiting = Delivery.objects.create(notifier=notifier, notice="fire", message={**made_up(), "notice": "fire"})
        moved = change(notifier, config={"url": outside.url(thief)})
        assert not moved.enabled
        sent = contacts.test_notifier(actor=OPERATOR, notifier=Notifier.objects.get(pk=moved.pk))
        assert (sent.state, "another address" in sent.error) == ("failed", True)
        assert send_due() == 0
        with pytest.raises(InvalidField) as error:
            change(moved, enabled=True)
        assert error.value.details["field"] == "secret"
        assert thief.seen == []
        change(moved, enabled=True, config={"secret": "another-secret-entered"})
        assert send_due() == 1
        waiting.refresh_from_db()
    assert waiting.state == "sent"
    assert [signed_with(seen, "another-secret-entered") for seen in thief.seen] == [True]
    assert Secret.objects.count() == 1


def test_the_old_address_or_another_path_of_it_has_the_old_secret():
    with outside.server() as owners:
        notifier = made_for(owners)
        change(notifier, config={"url": "https://elsewhere.example.com/"})
        back = change(notifier, enabled=True, config={"url": outside.url(owners, path="/another")})
        assert contacts.test_notifier(actor=OPERATOR, notifier=back).state == "sent"
    assert [signed_with(seen, SECRET) for seen in owners.seen] == [True]


def test_every_address_of_a_kind_with_a_secret_counts():
    named = {(kind.name, f.name) for kind in known_kinds() for f in kind.fields if "url" in f.name and not f.secret}
    places = {(kind.name, f.name) for kind in known_kinds() for f in kind.fields if f.place or f.type == "url"}
    assert named == places == {("webhook", "url")}


def test_what_was_stored_before_there_were_origins_gets_that_of_the_address_beside_it():
    with outside.server() as owners:
        made_for(owners)
    before = Secret.objects.get().origin
    Secret.objects.update(origin="")
    name = next(m.name for m in pkgutil.iter_modules(migrations.__path__) if m.name.endswith("_origins"))
    importlib.import_module(f"monitoring.migrations.{name}").note_origins(apps, None)
    assert Secret.objects.get().origin == before != ""
