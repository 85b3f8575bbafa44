"""Nobody is told of alerts by mail who did not agree, over real SMTP."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.test import Client

from accounts import mail
from accounts.models import Mail, Urgency, User
from audit.models import AuditEntry
from monitoring.alerting import agreements, contacts
from monitoring.alerting.deliver import send_test
from monitoring.alerting.models import Agreement, Delivery, Notifier
from tests.factories import MemberFactory, TenantFactory
from tests.smtp import mail_server
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR, Actor
from zcplatform.lib.errors import Conflict, RateLimited

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return TenantFactory()


def by_mail(tenant, *addresses, actor=OPERATOR):
    made = contacts.create_notifier(actor=actor, tenant=tenant, kind="mail", name="n", config={"to": list(addresses)})
    return made.notifier


def later(**time):
    then = clock.now() + timedelta(**time)
    return clock.use(lambda: then)


def link_in(box):
    return re.search(r"https?://\S+(/alerts/by-mail/\S+)", box.text().replace("\r", ""))[1]


def test_a_stranger_is_asked_and_told_only_after_yes(tenant, settings):
    with mail_server(settings) as box:
        notifier = by_mail(tenant, "Stranger@Example.com")
        sent = send_test(notifier)
        assert (sent.state, "agreed" in sent.error) == (Delivery.State.FAILED, True)
        assert (agreements.ask_waiting(), agreements.ask_waiting()) == (1, 0)
        assert mail.send_due() == 1
        assert (box.mails[0][0], tenant.name in box.mails[0][1]["Subject"]) == (["stranger@example.com"], True)
        path, visitor = link_in(box), Client()
        for method in (visitor.get, visitor.head):
            assert method(path).status_code == 200
        assert agreements.states_of(notifier) == {"stranger@example.com": "waiting"}, "a mail program opens links"
        assert visitor.post(path, {"say": "yes"}).status_code == 200
        assert agreements.states_of(notifier) == {"stranger@example.com": "agreed"}
        assert send_test(notifier).state == Delivery.State.SENT
        assert mail.send_due() == 1
        assert link_in(box) == path, "every alert says where to stop"
        assert visitor.post(path, {"say": "stop"}).status_code == 200
        assert send_test(notifier).state == Delivery.State.FAILED
        with later(days=3):
            contacts.update_notifier(actor=OPERATOR, notifier=notifier, changes={"name": "m"})
            assert agreements.ask_waiting() == 0, "whoever said stop is not asked again"
    told = AuditEntry.objects.filter(action__in=["notifier.agree", "notifier.stop"]).order_by("pk")
    assert [row.action for row in told] == ["notifier.agree", "notifier.stop"]


def test_another_link_and_an_old_one_do_nothing(tenant):
    by_mail(tenant, "a@example.com")
    agreements.ask_waiting()
    row = Agreement.objects.get()
    path = agreements.link(row).split("/", 3)[3]
    assert Client().post(f"/{path[:-1]}", {"say": "yes"}).status_code == 404
    with later(days=15):
        assert Client().post(f"/{path}", {"say": "yes"}).status_code == 409
        with pytest.raises(Conflict):
            agreements.agree(row)
    row.refresh_from_db()
    assert row.agreed_at is None


def test_members_who_have_logged_in_count_as_agreed_and_only_while_they_are(tenant):
    member = MemberFactory(tenant=tenant, user__email="m@example.com", user__last_login=clock.now())
    MemberFactory(tenant=tenant, user__email="new@example.com")
    elsewhere = MemberFactory(user__email="e@example.com", user__last_login=clock.now())
    User.objects.create_superuser("root@example.com", last_login=clock.now())
    addresses = ["m@example.com", "new@example.com", elsewhere.user.email, "root@example.com"]
    assert agreements.agreed(tenant, addresses) == ["m@example.com"]
    assert agreements.agreed(None, addresses) == ["root@example.com"]
    member.delete()
    assert agreements.agreed(tenant, addresses) == []


def test_a_member_may_say_stop(tenant):
    MemberFactory(tenant=tenant, user__email="m@example.com", user__last_login=clock.now())
    notifier = by_mail(tenant, "m@example.com")
    path = "/" + agreements.link_for(tenant, "m@example.com").split("/", 3)[3]
    Client().post(path, {"say": "stop"})
    assert agreements.states_of(notifier) == {"m@example.com": "stopped"}


def test_an_agreement_holds_for_the_tenant_it_was_given_for(tenant):
    Agreement.objects.create(tenant=tenant, address="a@example.com", agreed_at=clock.now())
    assert agreements.agreed(tenant, ["a@example.com"]) == ["a@example.com"]
    assert agreements.agreed(TenantFactory(), ["a@example.com"]) == agreements.agreed(None, ["a@example.com"]) == []


def test_one_address_is_asked_three_times_a_day_by_whomsoever():
    for _ in range(5):
        by_mail(TenantFactory(), "victim@example.com")
    assert agreements.ask_waiting() == 3
    assert agreements.ask_waiting() == 0
    assert Mail.objects.filter(recipient="victim@example.com", urgency=Urgency.INVITATION).count() == 3
    with later(days=1, seconds=1):
        assert agreements.ask_waiting() == 2


def test_what_waits_holds_nobody_else_up(tenant, monkeypatch):
    monkeypatch.setattr(agreements, "AT_ONCE", 2)
    monkeypatch.setattr(agreements, "PER_OWNER", 1)
    by_mail(tenant, "a@example.com", "b@example.com", "c@example.com", "d@example.com")
    other = TenantFactory()
    by_mail(other, "e@example.com")
    assert agreements.ask_waiting() == 2
    assert set(Mail.objects.values_list("recipient", flat=True)) == {"a@example.com", "e@example.com"}
    for _ in range(5):
        assert agreements.ask_waiting() == 0
    with later(hours=1, seconds=1):
        assert agreements.ask_waiting() == 1


def test_one_user_asks_sixty_times_an_hour(tenant, monkeypatch):
    monkeypatch.setattr(agreements, "BY_SENDER", "2/hour")
    member = MemberFactory(tenant=tenant, role="owner")
    actor = member.user.as_actor()
    with pytest.raises(RateLimited):
        by_mail(tenant, "a@example.com", "b@example.com", "c@example.com", actor=actor)
    assert not Notifier.objects.exists() and not Agreement.objects.exists()


def test_a_tenants_mails_of_an_hour_are_counted_by_recipient(tenant, monkeypatch):
    from monitoring.alerting.notifiers import mail as by

    monkeypatch.setattr(by, "TESTS", "3/hour")
    notifier = by_mail(tenant, "a@example.com", "b@example.com")
    for address in ("a@example.com", "b@example.com"):
        Agreement.objects.filter(address=address).update(agreed_at=clock.now())
    Mail.objects.all().delete()
    assert [send_test(notifier).state for _ in range(2)] == ["sent", "failed"]
    assert set(Mail.objects.values_list("urgency", flat=True)) == {Urgency.TEST}
    with later(hours=1, seconds=1):
        assert send_test(notifier).state == "sent"


def test_what_stood_there_before_keeps_members_and_asks_the_rest(tenant):
    """The migration's own function, on rows of before."""
    MemberFactory(tenant=tenant, user__email="m@example.com")
    Notifier.objects.create(
        tenant=tenant, kind="mail", name="n", config={"to": ["m@example.com", "X@example.com", "<no>"]}
    )
    Notifier.objects.create(kind="mail", name="p", config={"to": ["m@example.com"]})
    Notifier.objects.create(kind="slack", name="s", config={})
    migration = import_module("monitoring.migrations.0008_agreements")
    for _ in range(2):
        migration.ask_the_others(apps, None)
    assert agreements.states(tenant, ["m@example.com", "x@example.com"]) == {
        "m@example.com": "agreed",
        "x@example.com": "waiting",
    }
    assert agreements.states(None, ["m@example.com"]) == {"m@example.com": "waiting"}
    assert agreements.ask_waiting() == 2


def test_who_never_answers_is_forgotten(tenant):
    by_mail(tenant, "a@example.com")
    agreements.ask_waiting()
    assert agreements.prune() == 0
    with later(days=31):
        assert agreements.prune() == 1


def test_an_actor_without_a_user_asks_too(tenant):
    by_mail(tenant, "a@example.com", actor=Actor(label="operator", unrestricted=True))
    assert Agreement.objects.get().asked_at is None
