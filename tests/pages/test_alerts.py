"""Alerts on the pages: what fires, who looks after it, silences, a tenant's own rules, and who is told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring.alerting import contacts, services
from monitoring.alerting.models import Agreement, Alert, AlertRule, Delivery, Notifier, Silence
from tests.pages import table
from tests.pages.conftest import alerts_of, browser
from tests.pages.test_flows import told
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict

RULE = {
    "name": "Disk is short",
    "metric": "tenant_disk_pct",
    "comparison": "ge",
    "threshold": "70",
    "hold_min": "10",
    "severity": "critical",
    "repeat_min": "0",
    "enabled": "on",
}


@pytest.fixture
def manager(stage):
    return browser(stage.people["manager"])


def test_what_fires_stands_first_and_can_be_acknowledged_once(stage, manager):
    page = manager.get(table.of(stage.tenant, "alerts"))
    text = page.content.decode()
    assert [line.alert for line in page.context["lines"]] == [stage.alert]
    assert list(page.context["rows"]) == [stage.over]
    assert "93.25" in text
    assert "silent until" in text
    done = manager.post(table.of(stage.tenant, "alert_ack", stage.alert.public_id), follow=True)
    assert "no more repeats" in told(done)[0]
    assert "looks after it" in done.content.decode()
    stage.alert.refresh_from_db()
    assert (stage.alert.acked_by, stage.alert.acked_for_tenant_only) == (stage.people["manager"].email, True)
    over = manager.post(table.of(stage.tenant, "alert_ack", stage.over.public_id), follow=True)
    assert told(over) == ["This alert is over."]


def test_a_silence_is_asked_for_and_lifted(stage, manager):
    path = table.of(stage.tenant, "silence")
    question = manager.get(f"{path}?rule={stage.rule.public_id}")
    assert f'value="{stage.rule.public_id}" selected' in question.content.decode()
    assert manager.post(path, {"rule": "no-rule", "span": "1h"}).status_code == 422
    assert manager.post(path, {"rule": "", "span": "100y"}).status_code == 422
    for span, most in (("1h", timedelta(hours=1)), ("30d", timedelta(days=30))):
        manager.post(path, {"rule": "", "span": span, "note": "maintenance"})
        row = Silence.objects.latest("pk")
        assert (row.tenant, row.rule, row.for_tenant_only, row.note) == (stage.tenant, None, True, "maintenance")
        assert most - timedelta(minutes=2) < row.until - clock.now() <= most
    manager.post(table.of(stage.tenant, "unsilence", row.public_id))
    row.refresh_from_db()
    assert row.until <= clock.now()


def test_the_operator_s_silence_is_seen_and_not_lifted(stage, manager):
    row = services.silence(actor=OPERATOR, until=clock.now() + timedelta(days=1), tenant=stage.tenant, note="by us")
    page = manager.get(table.of(stage.tenant, "alerts")).content.decode()
    assert "by us" in page
    assert table.of(stage.tenant, "unsilence", row.public_id) not in page
    assert manager.post(table.of(stage.tenant, "unsilence", row.public_id)).status_code == 404
    theirs = browser(stage.people["super-admin"]).get(table.of(stage.tenant, "alerts")).content.decode()
    assert table.of(stage.tenant, "unsilence", row.public_id) in theirs


def test_a_rule_is_made_changed_and_deleted(stage, manager):
    made = manager.post(table.of(stage.tenant, "alert_rule_add"), RULE, follow=True)
    assert "looked at every minute" in told(made)[0]
    rule = AlertRule.objects.get(name="Disk is short")
    assert (rule.tenant, rule.audience) == (stage.tenant, "tenant")
    assert (rule.threshold, rule.hold_s, rule.repeat_s, rule.comparison) == (70, 600, 0, "ge")
    path = table.of(stage.tenant, "alert_rule", rule.public_id)
    shown = manager.get(path).content.decode()
    assert 'value="10"' in shown
    services.update_rule(actor=OPERATOR, rule=rule, changes={"hold_s": 90})  # the API knows seconds
    manager.post(path, {**RULE, "hold_min": "1", "threshold": "75"})
    rule.refresh_from_db()
    assert (rule.threshold, rule.hold_s) == (75, 90)
    gone = manager.post(table.of(stage.tenant, "alert_rule_delete", rule.public_id), follow=True)
    assert told(gone)[-1] == "Disk is short was deleted."
    assert not AlertRule.objects.filter(pk=rule.pk).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"threshold": "many"},
        {"threshold": "nan"},
        {"threshold": "1e300"},
        {"metric": "host_cpu_pct"},
        {"hold_min": "-1"},
        {"repeat_min": "4"},
        {"comparison": "=="},
    ],
)
def test_a_rule_that_can_t_be_is_told_beside_its_field(stage, manager, wrong):
    answer = manager.post(table.of(stage.tenant, "alert_rule_add"), {**RULE, **wrong})
    assert answer.status_code == 422
    assert [*answer.context["form"].errors] == [*wrong]
    assert stage.tenant.alert_rules.count() == 1


def test_the_platform_s_rules_are_read_and_silenced_but_not_changed(stage, manager):
    given = AlertRule.objects.create(name="Everybody's CPU", metric="tenant_cpu_pct", threshold=80, audience="both")
    hidden = AlertRule.objects.create(name="For operators", metric="tenant_cpu_pct", threshold=80, audience="platform")
    page = manager.get(table.of(stage.tenant, "alert_rules")).content.decode()
    assert "Everybody&#x27;s CPU" in page
    assert "For operators" not in page
    for rule in (given, hidden):
        assert manager.get(table.of(stage.tenant, "alert_rule", rule.public_id)).status_code == 404
        assert manager.post(table.of(stage.tenant, "alert_rule_delete", rule.public_id)).status_code == 404
    for rule, status in ((given, 302), (hidden, 422)):
        asked = {"rule": str(rule.public_id), "span": "1d"}
        assert manager.post(table.of(stage.tenant, "silence"), asked).status_code == status


def test_who_is_told_is_added_tried_and_removed(stage, manager):
    kinds = manager.get(table.of(stage.tenant, "notifiers")).context["kinds"]
    assert len(kinds) == 4
    path = table.of(stage.tenant, "notifier_add", "webhook")
    hook = {"name": "Hook", "min_severity": "critical", "url": "https://hooks.example.test/x"}
    assert manager.post(path, {**hook, "url": "http://127.0.0.1/"}).status_code == 422
    made = manager.post(path, hook)
    notifier = Notifier.objects.get(name="Hook")
    assert "no-store" in made["Cache-Control"]
    secret = made.context["secret"]
    assert secret in made.content.decode()
    for name in ("notifiers", "alerts"):
        assert secret not in manager.get(table.of(stage.tenant, name)).content.decode()
    assert secret not in manager.get(table.of(stage.tenant, "notifier", notifier.public_id)).content.decode()
    manager.post(table.of(stage.tenant, "notifier", notifier.public_id), {**hook, "name": "Hooked"})
    notifier.refresh_from_db()
    assert (notifier.name, notifier.enabled, notifier.secret is not None) == ("Hooked", False, True)
    manager.post(table.of(stage.tenant, "notifier_delete", notifier.public_id))
    assert not Notifier.objects.filter(pk=notifier.pk).exists()
    assert manager.get(table.of(stage.tenant, "notifier_add", "pigeon")).status_code == 404


def test_a_test_message_says_what_came_of_it(stage, manager):
    sent = manager.post(table.of(stage.tenant, "notifier_test", stage.notifier.public_id), follow=True)
    assert told(sent) == ["On call: None of the recipients has agreed yet to be told by mail."]
    Agreement.objects.update(agreed_at=clock.now())
    sent = manager.post(table.of(stage.tenant, "notifier_test", stage.notifier.public_id), follow=True)
    assert told(sent) == ["On call: the test message was sent."]
    assert Delivery.objects.filter(notifier=stage.notifier).latest("pk").notice == "test"
    assert "test message" in sent.content.decode()


def test_a_tenant_that_tells_nobody_is_told_so(stage, manager):
    assert "Nobody is told" not in manager.get(table.of(stage.tenant, "alerts")).content.decode()
    stage.tenant.notifiers.update(enabled=False)
    assert "Nobody is told" in manager.get(table.of(stage.tenant, "alerts")).content.decode()


def test_somebody_s_alerts_are_those_of_the_tenants_that_they_look_after(stage):
    other = type(stage.tenant).objects.get(slug="other")
    theirs = alerts_of(other)
    platform = Alert.objects.create(
        name="Host is full", severity="critical", state="firing", condition="x", since=clock.now(), seen_at=clock.now()
    )
    seen = {
        "manager": {stage.alert},
        "stranger": {theirs["alert"]},
        "viewer": set(),
        "super-admin": {stage.alert, theirs["alert"], platform},
    }
    for who, wanted in seen.items():
        assert set(browser(stage.people[who]).get("/alerts").context["rows"]) == wanted, who
    over = browser(stage.people["manager"]).get("/alerts?state=resolved")
    assert list(over.context["rows"]) == [stage.over]
    assert "You look after no alerts" in browser(stage.people["viewer"]).get("/alerts").content.decode()


@pytest.mark.parametrize(
    ("page", "key", "service", "back"),
    [
        ("alert_rule_delete", "rule", (services, "delete_rule"), "alert_rules"),
        ("notifier_delete", "notifier", (contacts, "delete_notifier"), "notifiers"),
    ],
)
def test_what_can_t_be_deleted_says_why_on_the_list(stage, manager, monkeypatch, page, key, service, back):
    def refuse(**_about):
        raise Conflict("It is being sent just now.")

    monkeypatch.setattr(*service, refuse)
    refused = manager.post(table.of(stage.tenant, page, getattr(stage, key).public_id), follow=True)
    assert told(refused) == ["It is being sent just now."]
    assert refused.redirect_chain == [(table.of(stage.tenant, back), 302)]


def test_another_tenant_s_alert_rule_silence_and_notifier_do_not_exist_here(stage, manager):
    other = alerts_of(type(stage.tenant).objects.get(slug="other"))
    for name, key in (
        ("alert_ack", "alert"),
        ("unsilence", "silence"),
        ("alert_rule", "rule"),
        ("alert_rule_delete", "rule"),
        ("notifier", "notifier"),
        ("notifier_test", "notifier"),
        ("notifier_delete", "notifier"),
    ):
        assert manager.post(table.of(stage.tenant, name, other[key].public_id), RULE).status_code == 404, name


def test_the_fleet_shows_what_fires_the_critical_first(stage):
    boss = browser(stage.people["super-admin"])
    about = {"state": "firing", "condition": "x", "since": clock.now(), "seen_at": clock.now()}
    host = Alert.objects.create(name="Host is full", severity="critical", **about)
    for number in range(8):
        Alert.objects.create(name=f"Sweep {number}", subject=str(number), severity="warning", **about)
    for path in ("/", "/admin/"):
        page = boss.get(path)
        assert page.context["alerts"][0] == host
        assert len(page.context["alerts"]) == 8
        assert "Host is full" in page.content.decode()
        assert "More alerts" in page.content.decode()
    Alert.objects.exclude(pk=stage.alert.pk).delete()
    page = boss.get("/admin/").content.decode()
    assert table.of(stage.tenant, "alerts") in page
    assert "More alerts" not in page
