"""Messages on their way: real receivers on the loopback see fire, silence between repeats, and resolve."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from datetime import timedelta
from ipaddress import ip_network

import pytest

from monitoring.alerting.deliver import PAUSES_S, send_due, send_test
from monitoring.alerting.evaluate import evaluate
from monitoring.alerting.message import test_message as made_up
from monitoring.alerting.models import Alert, AlertRule, Delivery, Notifier
from tenants.fields import place_of
from tests import outside, processes
from tests.tenants.test_membership import at_once
from vault import services as vault
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.failpoints import armed
from zcplatform.lib.redact import SecretStr

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "a-signing-secret-of-the-test"


@pytest.fixture(autouse=True)
def _loopback(settings, vault_key):
    """As an operator allows whose receiver is on the same host."""
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)


def notifier_to(made, **fields):
    config = {"url": outside.url(made, path="/alerts?team=ops")}
    about = {"purpose": "notifier", "owner": "platform", "field": "secret", "origin": place_of(config["url"])}
    secret = vault.put(value=SecretStr(SECRET), actor=SYSTEM, **about)
    return Notifier.objects.create(**{"name": "ops", "kind": "webhook", "config": config, "secret": secret, **fields})


def queued(notifier, **fields):
    message = {**made_up(), "notice": "fire"}
    return Delivery.objects.create(**{"notifier": notifier, "notice": "fire", "message": message, **fields})


def states():
    return list(Delivery.objects.order_by("pk").values_list("state", flat=True))


def bodies(made):
    return [json.loads(seen.body) for seen in made.seen]


def test_a_real_receiver_sees_fire_no_repeat_a_repeat_and_resolve(time, dial, rule):
    with outside.server() as made:
        notifier_to(made)

        def minutes(count):
            for _ in range(count):
                evaluate()
                send_due()
                time.pass_(minutes=1)

        dial.show(91.5)
        minutes(3)
        assert [body["notice"] for body in bodies(made)] == ["fire"]
        minutes(50)
        assert len(made.seen) == 1
        minutes(12)
        assert [body["notice"] for body in bodies(made)] == ["fire", "repeat"]
        dial.show(5.0)
        minutes(5)
        assert [body["notice"] for body in bodies(made)] == ["fire", "repeat", "resolve"]
    [fire, _, resolve] = bodies(made)
    assert fire["alert"] == resolve["alert"] == str(Alert.objects.get().public_id)
    assert (fire["rule"], fire["severity"], fire["value"], fire["state"]) == ("Dial is high", "warning", 91.5, "firing")
    assert fire["condition"] == "Dial > 80 % for 2 min"
    assert (fire["resolved_at"], resolve["resolved_at"] is None) == (None, False)
    assert states() == ["sent"] * 3


def test_a_receiver_can_prove_that_it_was_us_and_when():
    with outside.server() as made:
        delivery = queued(notifier_to(made))
        assert send_due() == 1
    [seen] = made.seen
    timestamp = seen.headers["X-Zcplatform-Timestamp"]
    expected = hmac.new(SECRET.encode(), timestamp.encode() + b"." + seen.body, hashlib.sha256).hexdigest()
    assert seen.headers["X-Zcplatform-Signature"] == f"v1={expected}"
    assert abs(int(timestamp) - clock.now().timestamp()) < 60
    assert seen.headers["X-Zcplatform-Delivery"] == str(delivery.public_id)
    assert (seen.path, seen.headers["Content-Type"]) == ("/alerts?team=ops", "application/json")
    assert SECRET not in json.dumps(list(Delivery.objects.values("message", "error")), default=str)


@pytest.mark.parametrize("status", [500, 503, 408, 425, 429])
def test_a_receiver_that_is_down_is_tried_again_with_longer_pauses_and_in_order(time, status):
    with outside.server(lambda h: h.answer(status)) as made:
        notifier = notifier_to(made)
        alert = open_alert()
        first, last = queued(notifier, alert=alert), queued(notifier, alert=alert, number=2, notice="resolve")
        assert send_due() == 0
        first.refresh_from_db()
        assert (first.state, first.attempts, first.error) == ("queued", 1, f"The receiver answered {status}.")
        send_due()
        assert len(made.seen) == 1, "neither before its time, nor the end before the beginning"
        for number, pause in enumerate(PAUSES_S[:3], 2):
            time.pass_(seconds=pause - 1)
            send_due()
            assert len(made.seen) == number - 1
            time.pass_(seconds=1)
            send_due()
            assert len(made.seen) == number
        made.script = outside.fine
        time.pass_(seconds=PAUSES_S[3])
        assert send_due() == 2
    assert states() == ["sent", "sent"]
    assert [seen.headers["X-Zcplatform-Delivery"] for seen in made.seen][-2:] == [
        str(first.public_id),
        str(last.public_id),
    ]


def test_a_message_is_given_up_after_the_last_pause(time):
    with outside.server(lambda h: h.answer(500)) as made:
        queued(notifier_to(made))
        for _ in range(len(PAUSES_S) + 3):
            send_due()
            time.pass_(hours=1)
    assert (states(), len(made.seen)) == (["failed"], len(PAUSES_S) + 1)


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301])
def test_a_receiver_that_says_no_is_not_asked_again(status):
    with outside.server(lambda h: h.answer(status, Location="http://127.0.0.1:1/")) as made:
        queued(notifier_to(made))
        send_due()
        send_due()
    assert (states(), len(made.seen)) == (["failed"], 1)


def test_l_a_receiver_that_asks_for_time_gets_it_within_limits(time):
    with outside.server(lambda h: h.answer(429, Retry_After="600")) as made:
        delivery = queued(notifier_to(made))
        send_due()
        delivery.refresh_from_db()
        assert delivery.next_attempt_at == clock.now() + timedelta(seconds=600)
        made.script = lambda h: h.answer(429, Retry_After="99999999")
        time.pass_(seconds=600)
        send_due()
        delivery.refresh_from_db()
        assert delivery.next_attempt_at == clock.now() + timedelta(hours=1)


def test_h1_an_address_that_may_not_be_called_is_refused_and_not_tried_again(settings):
    settings.ENDPOINT_NETWORKS = ()
    with outside.server() as made:
        queued(notifier_to(made))
        send_due()
    assert (states(), made.connections) == (["failed"], 0)


def test_one_slow_receiver_delays_its_own_messages_only():
    slow_may_answer = threading.Event()

    def slow(handler):
        slow_may_answer.wait(20)
        handler.answer(200)

    with outside.server(slow) as lazy, outside.server() as quick:
        queued(notifier_to(lazy))
        queued(notifier_to(quick))
        quick.script = lambda handler: (handler.answer(200), slow_may_answer.set())
        assert send_due() == 2
    assert states() == ["sent", "sent"]


def test_two_senders_at_once_send_each_message_once():
    with outside.server() as made:
        notifier = notifier_to(made)
        for _ in range(6):
            queued(notifier)
        assert at_once(*[send_due] * 4) == []
        send_due()
    assert sorted(s.headers["X-Zcplatform-Delivery"] for s in made.seen) == sorted(
        str(public_id) for public_id in Delivery.objects.values_list("public_id", flat=True)
    )
    assert states() == ["sent"] * 6


def test_a_sender_killed_after_it_sent_sends_once_more_under_the_same_id():
    """At least once: the receiver knows the second by its id."""
    with outside.server() as made:
        notifier = notifier_to(made)
        queued(notifier)
        queued(notifier)
        assert processes.run(send_due, "alerts.sent=kill") == processes.KILLED
        assert processes.run(send_due) == 0
        assert len(made.seen) == 1, "the dead worker's lease still holds"
        Notifier.objects.update(lease_until=clock.now() - timedelta(seconds=1))
        assert processes.run(send_due) == 0
    ids = [seen.headers["X-Zcplatform-Delivery"] for seen in made.seen]
    assert (len(ids), len(set(ids)), ids[0] == ids[1]) == (3, 2, True)
    assert states() == ["sent", "sent"]


def test_a_message_that_kills_its_sender_is_not_tried_for_ever(monkeypatch):
    with outside.server() as made, armed("alerts.sent=raise"):
        queued(notifier_to(made), attempts=len(PAUSES_S))
        send_due()
        assert Delivery.objects.get().attempts == len(PAUSES_S) + 1
    with outside.server() as other:
        Notifier.objects.update(config={"url": outside.url(other)})
        send_due()
    assert (states(), other.connections) == (["failed"], 0)


def test_a_disabled_notifier_keeps_its_messages_until_it_is_enabled():
    with outside.server() as made:
        queued(notifier_to(made, enabled=False))
        assert send_due() == 0
        Notifier.objects.update(enabled=True)
        assert send_due() == 1


def test_a_secret_that_does_not_open_fails_the_message_and_not_the_sender(monkeypatch):
    with outside.server() as made:
        broken, fine = notifier_to(made), notifier_to(made)
        type(broken.secret).objects.filter(pk=broken.secret_id).update(field="another")
        queued(broken)
        queued(fine)
        assert send_due() == 1
    assert states() == ["failed", "sent"]


def test_a_test_message_arrives_at_once_and_is_kept_with_what_came_of_it():
    with outside.server() as made:
        sent = send_test(notifier_to(made))
        made.script = lambda handler: handler.answer(404)
        failed = send_test(Notifier.objects.get())
    assert (sent.state, failed.state, failed.error) == ("sent", "failed", "The receiver answered 404.")
    assert bodies(made)[0]["notice"] == "test"


def test_r9_a_time_that_a_wrong_clock_wrote_holds_nothing_up(time):
    with outside.server() as made:
        queued(notifier_to(made), next_attempt_at=clock.now() + timedelta(days=365))
        assert send_due() == 1


def open_alert():
    rule = AlertRule.objects.create(name="x", metric="dial", threshold=1)
    now = clock.now()
    return Alert.objects.create(rule=rule, name="x", severity="warning", condition="x", since=now, seen_at=now)
