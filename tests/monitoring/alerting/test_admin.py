"""Alerts in the admin: everything goes through the services, secrets go in and never come out, names are text."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from django.test import Client

from audit.models import AuditEntry
from monitoring.alerting.models import Alert, AlertRule, Delivery, Notifier, Silence
from monitoring.alerting.rules import ensure_defaults
from tests import outside
from tests.factories import MemberFactory
from zcplatform.lib import clock

pytestmark = pytest.mark.django_db
RULES, ALERTS, NOTIFIERS = ("/admin/monitoring/alertrule/", "/admin/monitoring/alert/", "/admin/monitoring/notifier/")
SILENCES = "/admin/monitoring/silence/"
RULE = {
    "name": "Disk",
    "metric": "host_disk_pct",
    "comparison": "gt",
    "threshold": "90",
    "hold_s": "300",
    "severity": "critical",
    "repeat_s": "3600",
    "audience": "both",
    "enabled": "on",
}
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _vault(vault_key):
    pass


@pytest.fixture
def boss(client, super_admin):
    client.force_login(super_admin)
    return client


@pytest.fixture
def alert(tenant):
    now = clock.now()
    rule = AlertRule.objects.create(name=HOSTILE, metric="tenant_cpu_pct", threshold=1)
    about = {"name": HOSTILE, "label": HOSTILE, "condition": HOSTILE, "severity": "critical", "state": "firing"}
    return Alert.objects.create(rule=rule, tenant=tenant, subject="x", since=now, seen_at=now, **about)


def audited():
    return list(
        AuditEntry.objects.filter(action__regex="^(alert|notifier)").order_by("id").values_list("action", flat=True)
    )


def told(answer):
    return [str(message) for message in answer.context["messages"]]


def addresses(alert):
    notifier = Notifier.objects.create(name=HOSTILE, kind="webhook", config={"url": f"https://x.test/{HOSTILE}"})
    Silence.objects.create(rule=alert.rule, until=clock.now(), note=HOSTILE, created_by=HOSTILE)
    rows = [(RULES, alert.rule), (ALERTS, alert), (NOTIFIERS, notifier), (SILENCES, Silence.objects.get())]
    pages = [page for page, _ in rows] + [f"{page}{row.pk}/change/" for page, row in rows]
    kinds = [f"{NOTIFIERS}add/?kind={kind}" for kind in ("mail", "webhook", "slack", "telegram")]
    return [*pages, f"{RULES}add/", f"{NOTIFIERS}add/", *kinds]


def test_k10_only_super_admins_get_in_and_names_are_text(boss, alert, tenant):
    manager = Client()
    manager.force_login(MemberFactory(tenant=tenant, role="manager").user)
    for address in addresses(alert):
        answer = boss.get(address)
        assert answer.status_code == 200, address
        assert HOSTILE not in answer.content.decode(), address
        assert Client().get(address).status_code == 302
        assert manager.get(address).status_code == 302


def test_a_rule_is_made_changed_and_deleted(boss):
    assert boss.post(f"{RULES}add/", RULE).status_code == 302
    rule = AlertRule.objects.get()
    assert (rule.metric, rule.threshold, rule.tenant, rule.severity) == ("host_disk_pct", 90, None, "critical")
    assert boss.post(f"{RULES}{rule.pk}/change/", {**RULE, "threshold": "70"}).status_code == 302
    rule.refresh_from_db()
    assert (rule.threshold, rule.edited_at is not None) == (70, True)
    assert boss.post(f"{RULES}{rule.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not AlertRule.objects.exists()
    assert audited() == ["alert_rule.create", "alert_rule.update", "alert_rule.delete"]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"hold_s": "99999999"}, "hold_s"), ({"repeat_s": "5"}, "repeat_s"), ({"metric": "gone"}, "metric")],
)
def test_a_refusal_stands_beside_its_field(boss, change, field):
    answer = boss.post(f"{RULES}add/", {**RULE, **change})
    assert field in answer.context["adminform"].form.errors
    assert not AlertRule.objects.exists()


def test_a_tenants_rule_takes_no_metric_of_the_platform(boss, tenant):
    answer = boss.post(f"{RULES}add/", {**RULE, "tenant": tenant.slug})
    assert "metric" in answer.context["adminform"].form.errors
    boss.post(f"{RULES}add/", {**RULE, "tenant": tenant.slug, "metric": "tenant_cpu_pct"})
    assert (AlertRule.objects.get().tenant, AlertRule.objects.get().audience) == (tenant, "tenant")


def test_a_default_rule_can_be_disabled_and_not_deleted(boss):
    ensure_defaults()
    rule = AlertRule.objects.get(key="host-disk")
    assert boss.post(f"{RULES}{rule.pk}/delete/", {"post": "yes"}).status_code == 403
    fields = {name: value for name, value in RULE.items() if name != "enabled"}
    boss.post(f"{RULES}{rule.pk}/change/", fields)
    rule.refresh_from_db()
    assert (rule.enabled, rule.key) == (False, "host-disk")


def test_an_alert_is_acknowledged_and_silenced_from_the_list(boss, alert, tenant):
    def act(name):
        return told(boss.post(ALERTS, {"action": name, "_selected_action": [alert.pk]}, follow=True))

    assert act("acknowledge")[0].startswith("Acknowledged")
    alert.refresh_from_db()
    assert alert.acked_at is not None
    assert act("silence_3600")[0].startswith("Silenced for an hour")
    quiet = Silence.objects.get()
    assert (quiet.rule, quiet.tenant, quiet.for_tenant_only) == (alert.rule, tenant, False)
    assert told(boss.post(SILENCES, {"action": "lift", "_selected_action": [quiet.pk]}, follow=True)) == [
        "The silence is lifted."
    ]
    quiet.refresh_from_db()
    assert quiet.until <= clock.now()
    assert audited() == ["alert.ack", "alert.silence", "alert.unsilence"]


def test_a_webhook_is_made_tried_changed_and_deleted_and_its_secret_is_shown_once(boss, settings):
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)
    with outside.server() as made:
        fields = {"name": "On call", "tenant": "", "min_severity": "warning", "url": outside.url(made), "secret": ""}
        shown = boss.post(f"{NOTIFIERS}add/?kind=webhook", fields)
        row = Notifier.objects.get()
        secret = shown.context["secret"].rpartition(" ")[2]
        assert len(secret) > 40 and row.config == {"url": outside.url(made).rstrip("/") + "/"}
        page = f"{NOTIFIERS}{row.pk}/change/"
        assert secret not in boss.get(page).content.decode()
        assert told(boss.post(f"{NOTIFIERS}{row.pk}/test/", follow=True)) == ["The test message was sent."]
        made.script = lambda handler: handler.answer(410)
        answer = boss.post(f"{NOTIFIERS}{row.pk}/test/", follow=True)
        assert told(answer) == ["The receiver answered 410."]
        assert "The receiver answered 410." in boss.get(page).content.decode()
    changed = {"name": "Night", "min_severity": "critical", "url": row.config["url"], "secret": ""}
    assert told(boss.post(page, changed, follow=True)) == ["Stored."]
    row.refresh_from_db()
    assert (row.name, row.enabled, row.min_severity) == ("Night", False, "critical")
    boss.post(f"{NOTIFIERS}{row.pk}/remove/")
    assert not Notifier.objects.exists()
    assert audited() == ["notifier.create", "notifier.test", "notifier.test", "notifier.update", "notifier.delete"]


def test_mail_goes_to_one_address_per_line_and_a_bad_one_is_told_beside_it(boss, tenant):
    fields = {"name": "Team", "tenant": tenant.slug, "min_severity": "warning"}
    bad = boss.post(f"{NOTIFIERS}add/?kind=mail", {**fields, "to": "nobody"})
    assert "to" in bad.context["form"].errors and not Notifier.objects.exists()
    boss.post(f"{NOTIFIERS}add/?kind=mail", {**fields, "to": "a@example.test\r\nb@example.test"})
    row = Notifier.objects.get()
    assert (row.tenant, row.config, row.secret) == (tenant, {"to": ["a@example.test", "b@example.test"]}, None)


def test_what_does_not_exist_is_404_and_a_get_changes_nothing(boss):
    row = Notifier.objects.create(name="x", kind="webhook", config={})
    for address in (f"{NOTIFIERS}add/?kind=pigeon", f"{NOTIFIERS}999/change/", f"{NOTIFIERS}x/change/"):
        assert boss.get(address).status_code == 404
    for act in ("test", "remove"):
        assert boss.get(f"{NOTIFIERS}{row.pk}/{act}/").status_code == 405
    assert Notifier.objects.count() == 1


def test_an_alert_s_page_lists_its_messages_with_whom_they_went_to(boss, alert):
    page = f"{ALERTS}{alert.pk}/change/"
    assert "Nobody was told of it." in boss.get(page).content.decode()
    notifier = Notifier.objects.create(kind="mail", name=HOSTILE, config={"to": ["a@example.test"]})
    about = {"alert": alert, "notifier": notifier, "message": {}, "notice": "firing", "state": "failed"}
    Delivery.objects.create(**about, attempts=3, error="The server said 550.")
    text = boss.get(page).content.decode()
    assert "The server said 550." in text
    assert HOSTILE not in text
