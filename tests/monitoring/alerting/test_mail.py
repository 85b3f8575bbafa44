"""Alerts by mail: a real SMTP conversation sees fire, silence between repeats, and resolve."""

from __future__ import annotations

import email
import email.policy

import pytest
from aiosmtpd.controller import Controller

from accounts import mail
from accounts.models import Mail
from monitoring.alerting.deliver import send_due, send_test
from monitoring.alerting.evaluate import evaluate
from monitoring.alerting.models import Agreement, AlertRule, Delivery, Notifier
from tests.factories import TenantFactory
from zcplatform.lib import clock

pytestmark = pytest.mark.django_db(transaction=True)


class Mailbox:
    """What arrived, taken apart."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append((envelope.rcpt_tos, message["Subject"], message.get_body(("plain",)).get_content()))
        return "250 OK"


class Server(Controller):
    """On a port that the system picks."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mailbox(settings):
    box = Mailbox()
    server = Server(box, hostname="127.0.0.1", port=0)
    server.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = False
    yield box
    server.stop()


@pytest.fixture
def by_mail(db):
    for name in ("ops", "night"):
        Agreement.objects.create(address=f"{name}@example.test", asked_at=clock.now(), agreed_at=clock.now())
    return Notifier.objects.create(name="ops", kind="mail", config={"to": ["ops@example.test", "night@example.test"]})


def test_a_real_mailbox_sees_fire_no_repeat_a_repeat_and_resolve(time, dial, rule, by_mail, mailbox):
    def minutes(count):
        for _ in range(count):
            evaluate()
            send_due()
            mail.send_due()
            time.pass_(minutes=1)

    def subjects():
        return [subject for to, subject, _ in mailbox.mails if to == ["ops@example.test"]]

    dial.show(91.5)
    minutes(3)
    assert subjects() == ["Firing (warning): Dial is high: thing 0"]
    minutes(50)
    assert len(subjects()) == 1
    minutes(12)
    assert subjects()[1:] == ["Still firing (warning): Dial is high: thing 0"]
    dial.show(5.0)
    minutes(5)
    assert subjects()[2:] == ["Resolved (warning): Dial is high: thing 0"]
    assert len(mailbox.mails) == 6, "each to both"
    text = mailbox.mails[0][2]
    assert "Condition: Dial > 80 % for 2 min" in text and "Value: 91.5" in text and "2026-11-25 12:00:00 UTC" in text


def test_a_server_that_is_down_holds_up_no_alert_and_the_mail_goes_out_later(
    time, dial, rule, by_mail, settings, mailbox
):
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, 1
    assert send_test(by_mail).state == Delivery.State.SENT, "it is in the queue, which looks after the rest"
    assert mail.send_due() == 0
    settings.EMAIL_PORT = port
    time.pass_(minutes=5)
    assert mail.send_due() == 2
    assert mailbox.mails[0][1] == "Test message (warning): Test of a notifier"


HOSTILE = "<img src=x onerror=alert(1)> *bold* `x` <!channel> &amp; \u00e9\u4e2d"


def test_k10_names_are_text_and_end_no_header(time, dial, by_mail, mailbox):
    tenant = TenantFactory(name=HOSTILE)
    AlertRule.objects.create(name=HOSTILE[:120], metric="dial", threshold=80, hold_s=0)
    dial.show(99.0, tenant=tenant)
    evaluate()
    send_due()
    mail.send_due()
    to, subject, text = mailbox.mails[0]
    assert (to, subject.strip()) == (["ops@example.test"], f"Firing (warning): {HOSTILE}: {tenant.slug}")
    assert f"Tenant: {HOSTILE} ({tenant.slug})" in text
    assert Mail.objects.filter(failed_at=None).count() == 2


def test_a_title_that_is_too_long_for_a_subject_is_cut(by_mail, time, dial, mailbox):
    AlertRule.objects.create(name="x" * 120, metric="dial", threshold=80, hold_s=0)
    from monitoring.alerting.metrics import Reading

    dial.readings = [Reading("s", 99.0, "y" * 120)]
    evaluate()
    send_due()
    mail.send_due()
    assert len(mailbox.mails[0][1]) == 200
