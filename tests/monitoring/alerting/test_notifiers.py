"""Slack and Telegram: what their real servers would be sent, hostile names included."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from monitoring.alerting import contacts
from monitoring.alerting.deliver import send_test
from monitoring.alerting.machine import Notice
from monitoring.alerting.message import compose, lines, title
from monitoring.alerting.models import Alert, Notifier
from monitoring.alerting.notifiers import notifier_kind, telegram
from monitoring.alerting.notifiers.base import Address
from monitoring.alerting.notifiers.webhook import sign
from tests import outside
from tests.factories import TenantFactory
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import DependencyDown
from zcplatform.lib.redact import SecretStr

pytestmark = pytest.mark.django_db
HOSTILE = "<img src=x onerror=alert(1)> *b* _i_ `c` <!channel> <https://evil.example|x> &amp; é中"
BOT = "12345678:" + "A" * 35


@pytest.fixture(autouse=True)
def _loopback(settings, vault_key):
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)


@pytest.fixture
def message():
    now = clock.now()
    alert = Alert(tenant=TenantFactory(name=HOSTILE[:100]), name=HOSTILE[:120], severity="critical", state="firing")
    alert.label, alert.condition, alert.value, alert.since = alert.tenant.slug, "Memory > 90 %", 93.25, now
    return compose(alert, Notice.FIRE)


def test_k10_slack_gets_no_link_no_mention_and_no_markup(message):
    with outside.server() as made:
        secret = SecretStr(outside.url(made, path="/services/T0/B0/secret"))
        notifier_kind("slack").send(Address({}, secret, "d1"), message)
    body = json.loads(made.seen[0].body)
    assert made.seen[0].path == "/services/T0/B0/secret"
    assert body["mrkdwn"] is False
    assert "<" not in body["text"] and ">" not in body["text"]
    assert "&lt;!channel&gt;" in body["text"] and "&amp;amp;" in body["text"] and "Value: 93.25" in body["text"]


def test_k10_telegram_gets_plain_text_for_the_chat_and_the_token_in_the_address_alone(message, monkeypatch):
    with outside.server() as made:
        monkeypatch.setattr(telegram, "API", outside.url(made, path=""))
        notifier_kind("telegram").send(Address({"chat_id": "-1001"}, SecretStr(BOT), "d1"), message)
    body = json.loads(made.seen[0].body)
    assert made.seen[0].path == f"/bot{BOT}/sendMessage"
    assert set(body) == {"chat_id", "text", "link_preview_options"}
    assert body["text"].splitlines()[0] == title(message)
    assert BOT not in made.seen[0].body.decode()


def test_k10_a_webhooks_json_is_ascii_and_says_the_name_as_it_is(message):
    with outside.server() as made:
        url = outside.url(made)
        notifier_kind("webhook").send(Address({"url": url}, SecretStr("s" * 20), "d1"), message)
    assert made.seen[0].body.isascii()
    assert json.loads(made.seen[0].body)["tenant"]["name"] == HOSTILE[:100]


def test_an_error_quotes_neither_address_nor_answer(monkeypatch):
    made = contacts.create_notifier(
        actor=OPERATOR, tenant=None, kind="telegram", name="t", config={"chat_id": "@ops_room", "bot_token": BOT}
    )
    with outside.server(lambda handler: handler.answer(404, b"no such bot " + BOT.encode())) as server:
        monkeypatch.setattr(telegram, "API", outside.url(server, path=""))
        delivery = send_test(Notifier.objects.get(pk=made.notifier.pk))
    assert (delivery.state, delivery.error) == ("failed", "The receiver answered 404.")


def test_a_receiver_that_breaks_off_is_worth_another_try():
    def broken(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with outside.server(broken) as made, pytest.raises(DependencyDown):
        notifier_kind("webhook").send(Address({"url": outside.url(made)}, SecretStr("s" * 20), "d1"), {"a": 1})


def test_the_signature_covers_the_time_and_the_raw_body():
    secret = SecretStr("0123456789abcdef")
    given = sign(secret, "1764072000", b'{"a":1}')
    assert given.startswith("v1=") and len(given) == 67
    assert given != sign(secret, "1764072001", b'{"a":1}')
    assert given != sign(secret, "1764072000", b'{"a": 1}')
    assert given != sign(SecretStr("0123456789abcdeF"), "1764072000", b'{"a":1}')


def test_a_message_is_lines_of_text_without_what_is_not_known(message):
    assert lines({**message, "value": None, "tenant": None})[1:3] == ["Condition: Memory > 90 %", lines(message)[4]]
    assert lines(message)[0] == f"Firing (critical): {HOSTILE[:120]}: {message['subject']}"


@pytest.mark.parametrize("name", ["mail", "webhook", "slack", "telegram"])
def test_every_kind_has_at_most_one_secret_and_says_its_name(name):
    kind = notifier_kind(name)
    assert kind.name == name and kind.label
    assert sum(field.secret for field in kind.fields) <= 1
