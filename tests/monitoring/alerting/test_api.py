"""Alerts over the API: who may, what is refused and named, and that secrets go in and never come out."""

from __future__ import annotations

import json
from datetime import timedelta
from ipaddress import ip_network

import pytest

from accounts.rates import permits
from audit.models import AuditEntry
from monitoring.alerting import contacts, services
from monitoring.alerting.models import Alert, AlertRule, Delivery, Notifier, Silence
from monitoring.alerting.rules import ensure_defaults
from tenants.models import Event
from tests import outside
from tests.accounts.conftest import Api, access_token, key_of
from tests.factories import MemberFactory, TenantFactory
from vault.models import Secret
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR

pytestmark = pytest.mark.django_db
RULE = {"name": "Memory", "metric": "tenant_memory_pct", "threshold": 90}
HOOK = {"kind": "webhook", "name": "On call", "config": {"url": "https://hooks.example.test/x?y=z"}}
TELEGRAM = {"chat_id": "-100123", "bot_token": "12345678:" + "A" * 35}


@pytest.fixture(autouse=True)
def _fresh(vault_key):
    permits.clear()


@pytest.fixture
def manager(tenant):
    return MemberFactory(tenant=tenant, role="manager").user


@pytest.fixture
def api(manager):
    return Api(access_token(manager))


@pytest.fixture
def root(super_admin):
    return Api(access_token(super_admin))


def said(answer, status):
    assert answer.status_code == status, answer.content
    return answer.json() if answer.content else None


def refused(answer, status):
    return said(answer, status)["error"]["type"]


def patch(api, path, body):
    return api("patch", path, body)


def actions():
    rows = AuditEntry.objects.filter(action__regex="^(alert|notifier)").order_by("id")
    return list(rows.values_list("action", flat=True))


def test_a_manager_makes_changes_and_deletes_a_rule(api, tenant):
    made = said(api.post("alerts/rules", {**RULE, "tenant": str(tenant.public_id)}), 201)
    assert (made["tenant"]["slug"], made["audience"], made["default"]) == (tenant.slug, "tenant", False)
    assert made["condition"] == "Memory, of the limit > 90 % for 5 min"
    path = f"alerts/rules/{made['id']}"
    assert said(patch(api, path, {"threshold": 95, "enabled": False}), 200)["threshold"] == 95
    assert [row["id"] for row in said(api.get("alerts/rules"), 200)["items"]] == [made["id"]]
    assert said(api.get(path), 200)["enabled"] is False
    said(api.delete(path), 204)
    assert said(api.get("alerts/rules"), 200)["items"] == []
    assert actions() == ["alert_rule.create", "alert_rule.update", "alert_rule.delete"]
    assert list(Event.objects.values_list("type", flat=True)) == actions()


@pytest.mark.parametrize("role", ["viewer", "contributor"])
def test_c1_who_does_not_manage_sees_nothing_and_changes_nothing(tenant, role):
    api = Api(access_token(MemberFactory(tenant=tenant, role=role).user))
    rule = AlertRule.objects.create(tenant=tenant, name="x", metric="tenant_memory_pct", threshold=1)
    notifier = Notifier.objects.create(tenant=tenant, name="x", kind="webhook", config={})
    alert = opened(rule, tenant)
    where = str(tenant.public_id)
    for path in ("alerts", "alerts/rules", "alerts/notifiers", "alerts/silences"):
        assert said(api.get(path), 200)["items"] == []
        assert refused(api.get(f"{path}?tenant={where}"), 403) == "forbidden"
    for path in (f"rules/{rule.public_id}", f"notifiers/{notifier.public_id}", str(alert.public_id)):
        assert refused(api.get(f"alerts/{path}"), 404) == "not_found"
    assert refused(api.post("alerts/rules", {**RULE, "tenant": where}), 403) == "forbidden"
    assert refused(api.post("alerts/notifiers", {**HOOK, "tenant": where}), 403) == "forbidden"
    assert refused(api.post(f"alerts/notifiers/{notifier.public_id}/test"), 404) == "not_found"
    assert refused(api.post("alerts/silences", {"tenant": where, "until": soon()}), 403) == "forbidden"
    assert refused(api.post(f"alerts/{alert.public_id}/ack"), 404) == "not_found"
    assert (AlertRule.objects.count(), Notifier.objects.count(), Silence.objects.count()) == (1, 1, 0)


def test_c1_another_tenants_things_answer_as_what_does_not_exist(tenant, stranger):
    api = Api(access_token(stranger))
    rule = AlertRule.objects.create(tenant=tenant, name="x", metric="tenant_memory_pct", threshold=1)
    notifier = Notifier.objects.create(tenant=tenant, name="x", kind="webhook", config={})
    quiet = Silence.objects.create(tenant=tenant, until=clock.now() + timedelta(hours=1), created_by="x")
    alert = opened(rule, tenant)
    nothing = "00000000-0000-4000-8000-000000000000"
    for kind, row in (("rules/", rule), ("notifiers/", notifier), ("silences/", quiet), ("", alert)):
        for method, tail in (("get", ""), ("patch", ""), ("delete", ""), ("post", "/test"), ("post", "/ack")):
            real = api(method, f"alerts/{kind}{row.public_id}{tail}", {} if method in ("patch", "post") else None)
            none = api(method, f"alerts/{kind}{nothing}{tail}", {} if method in ("patch", "post") else None)
            assert (real.status_code, without_id(real)) == (none.status_code, without_id(none)), (kind, method, tail)
            assert real.status_code in (404, 405)
    where = {"tenant": str(tenant.public_id)}
    for path, body in (("rules", RULE), ("notifiers", HOOK), ("silences", {"until": soon()})):
        assert refused(api.post(f"alerts/{path}", {**body, **where}), 404) == "not_found"
        assert refused(api.get(f"alerts/{path}?tenant={where['tenant']}"), 404) == "not_found"
    own = {"tenant": str(stranger.memberships.get().tenant.public_id), "rule": str(rule.public_id), "until": soon()}
    assert refused(api.post("alerts/silences", own), 404) == "not_found"


def test_the_platforms_are_for_super_admins(api, root, tenant):
    assert refused(api.post("alerts/rules", RULE), 403) == "forbidden"
    assert refused(api.post("alerts/notifiers", HOOK), 403) == "forbidden"
    assert refused(api.post("alerts/silences", {"until": soon()}), 403) == "forbidden"
    made = said(root.post("alerts/rules", {**RULE, "metric": "host_disk_pct"}), 201)
    assert made["tenant"] is None
    said(root.post("alerts/notifiers", HOOK), 201)
    said(root.post("alerts/silences", {"until": soon(), "note": "Maintenance"}), 201)
    assert refused(api.get(f"alerts/rules/{made['id']}"), 404) == "not_found"


def test_a_manager_sees_and_silences_but_does_not_change_the_platforms_rules_about_tenants(api, root, tenant):
    ensure_defaults()
    rows = {row["name"]: row for row in said(api.get("alerts/rules?limit=200"), 200)["items"]}
    assert "Memory is nearly used up" in rows and "Host's disk fills up" not in rows
    rule = rows["CPU is busy"]
    assert refused(patch(api, f"alerts/rules/{rule['id']}", {"threshold": 99}), 404) == "not_found"
    body = {"rule": rule["id"], "tenant": str(tenant.public_id), "until": soon()}
    quiet = said(api.post("alerts/silences", body), 201)
    assert quiet["for_tenant_only"] is True
    assert refused(api.post("alerts/silences", {"rule": rule["id"], "until": soon()}), 403) == "forbidden"
    theirs = said(root.post("alerts/silences", body), 201)
    assert theirs["for_tenant_only"] is False
    assert refused(api.delete(f"alerts/silences/{theirs['id']}"), 404) == "not_found"
    said(api.delete(f"alerts/silences/{quiet['id']}"), 204)
    assert [row["id"] for row in said(api.get("alerts/silences"), 200)["items"]] == [theirs["id"]]


def test_a_default_rule_is_disabled_and_not_deleted_and_stays_as_it_was_edited(root):
    ensure_defaults()
    rule = AlertRule.objects.get(key="host-disk")
    assert refused(root.delete(f"alerts/rules/{rule.public_id}"), 409) == "default_rule"
    said(patch(root, f"alerts/rules/{rule.public_id}", {"enabled": False, "threshold": 70}), 200)
    assert ensure_defaults() == 0
    rule.refresh_from_db()
    assert (rule.enabled, rule.threshold) == (False, 70)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metric": "rm -rf"}, "metric"),
        ({"metric": "host_disk_pct"}, "metric"),
        ({"comparison": "=="}, "comparison"),
        ({"threshold": "90"}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"threshold": 1e300}, "threshold"),
        ({"hold_s": -1}, "hold_s"),
        ({"hold_s": 10**9}, "hold_s"),
        ({"repeat_s": 5}, "repeat_s"),
        ({"severity": "info"}, "severity"),
        ({"audience": "platform"}, "audience"),
        ({"name": "a\nb"}, "name"),
        ({"name": ""}, "name"),
        ({"key": "host-disk"}, "key"),
        ({"enabled": "yes"}, "enabled"),
    ],
)
def test_a_bad_rule_is_refused_by_field_and_nothing_changes(api, tenant, change, field):
    answer = api.post("alerts/rules", {**RULE, "tenant": str(tenant.public_id), **change})
    assert answer.status_code == 422 and field in answer.content.decode()
    assert not AlertRule.objects.exists()


def test_m_a_tenants_rules_and_notifiers_are_counted(api, tenant, monkeypatch):
    monkeypatch.setattr(services, "MAX_RULES", 2)
    monkeypatch.setattr(contacts, "MAX_NOTIFIERS", 2)
    where = {"tenant": str(tenant.public_id)}
    for _ in range(2):
        said(api.post("alerts/rules", {**RULE, **where}), 201)
        said(api.post("alerts/notifiers", {**HOOK, **where}), 201)
    assert refused(api.post("alerts/rules", {**RULE, **where}), 409) == "too_many_rules"
    assert refused(api.post("alerts/notifiers", {**HOOK, **where}), 409) == "too_many_notifiers"


def test_a_super_admin_sees_every_rule_one_by_one_and_in_the_list(root, tenant):
    rules = [
        AlertRule.objects.create(tenant=whose, name=name, metric=metric, threshold=1)
        for whose, name, metric in ((tenant, "a", "tenant_memory_pct"), (None, "b", "disk_used_pct"))
    ]
    everything = {item["id"] for item in said(root.get("alerts/rules?limit=200"), 200)["items"]}
    for rule in rules:
        assert said(root.get(f"alerts/rules/{rule.public_id}"), 200)["name"] == rule.name
        assert str(rule.public_id) in everything


def test_a_signing_secret_is_shown_once_and_lies_in_the_vault(api, tenant):
    body = {**HOOK, "tenant": str(tenant.public_id)}
    made = said(api.post("alerts/notifiers", body), 201)
    assert len(made["secret"]) >= 40 and made["has_secret"] is True
    path = f"alerts/notifiers/{made['id']}"
    everything = [api.get(path), api.get("alerts/notifiers"), patch(api, path, {"name": "Night"})]
    stored = [*Notifier.objects.values(), *AuditEntry.objects.values(), *Event.objects.values()]
    assert made["secret"] not in json.dumps([a.json() for a in everything]) + json.dumps(stored, default=str)
    row = Notifier.objects.get()
    assert row.secret.ciphertext.startswith("v1:")
    said(patch(api, path, {"config": {"secret": "a-better-secret-of-mine"}}), 200)
    assert said(api.get(path), 200)["config"] == {"url": "https://hooks.example.test/x?y=z"}
    said(api.delete(path), 204)
    assert (Notifier.objects.count(), Secret.objects.filter(purpose="notifier").count()) == (0, 0)
    assert actions() == ["notifier.create", "notifier.update", "notifier.update", "notifier.delete"]


@pytest.mark.parametrize(
    ("kind", "config", "type"),
    [
        ("pigeon", {}, "unknown_notifier"),
        ("webhook", {}, "invalid_field"),
        ("webhook", {"url": "http://hooks.example.test/"}, "endpoint_refused"),
        ("webhook", {"url": "https://user@hooks.example.test/"}, "endpoint_refused"),
        ("webhook", {"url": "file:///etc/passwd"}, "endpoint_refused"),
        ("webhook", {"url": "https://localhost/"}, "endpoint_refused"),
        ("webhook", {"url": "https://hooks.example.test/", "secret": "short"}, "invalid_field"),
        ("webhook", {"url": "https://hooks.example.test/", "extra": 1}, "invalid_field"),
        ("slack", {}, "invalid_field"),
        ("slack", {"webhook_url": "gopher://x"}, "endpoint_refused"),
        ("telegram", {**TELEGRAM, "bot_token": "../../x"}, "invalid_field"),
        ("telegram", {**TELEGRAM, "chat_id": "1/../2"}, "invalid_field"),
    ],
)
def test_h5_a_bad_notifier_is_refused_and_nothing_is_stored(api, tenant, kind, config, type):
    body = {"tenant": str(tenant.public_id), "kind": kind, "name": "x", "config": config}
    assert refused(api.post("alerts/notifiers", body), 422) == type
    assert (Notifier.objects.count(), Secret.objects.count()) == (0, 0)


def test_a_test_says_what_came_of_it_and_is_limited(api, tenant, settings):
    settings.ALLOW_HTTP_ENDPOINTS, settings.ENDPOINT_NETWORKS = True, (ip_network("127.0.0.0/8"),)
    with outside.server() as made:
        body = {**HOOK, "tenant": str(tenant.public_id), "config": {"url": outside.url(made)}}
        path = f"alerts/notifiers/{said(api.post('alerts/notifiers', body), 201)['id']}"
        assert said(api.post(f"{path}/test"), 200)["state"] == "sent"
        made.script = lambda handler: handler.answer(403, b"<script>alert(1)</script>")
        failed = said(api.post(f"{path}/test"), 200)
        assert (failed["state"], failed["error"]) == ("failed", "The receiver answered 403.")
        for _ in range(8):
            said(api.post(f"{path}/test"), 200)
        assert refused(api.post(f"{path}/test"), 429) == "rate_limited"
        assert len(made.seen) == 10
    log = said(api.get(f"{path}/deliveries"), 200)["items"]
    assert len(log) == 10 and {row["notice"] for row in log} == {"test"}
    outcomes = AuditEntry.objects.filter(action="notifier.test").order_by("id").values_list("outcome", flat=True)
    assert list(outcomes[:2]) == ["ok", "failed"]


def test_a_managers_acknowledgement_leaves_the_operators_repeats(api, root, tenant):
    alert = opened(AlertRule.objects.create(name="x", metric="tenant_memory_pct", threshold=1), tenant)
    platform = Notifier.objects.create(name="ops", kind="webhook", config={})
    theirs = Notifier.objects.create(tenant=tenant, name="team", kind="webhook", config={})
    path = f"alerts/{alert.public_id}"
    assert said(api.post(f"{path}/ack"), 200)["acked_by"]
    alert.refresh_from_db()
    assert (alert.is_acked_for(theirs), alert.is_acked_for(platform)) == (True, False)
    said(root.post(f"{path}/ack"), 200)
    alert.refresh_from_db()
    assert alert.is_acked_for(platform)
    Alert.objects.update(state="resolved")
    assert refused(api.post(f"{path}/ack"), 409) == "alert_resolved"
    assert actions() == ["alert.ack", "alert.ack"]


def test_alerts_are_listed_by_state_and_tenant(api, root, tenant):
    rule = AlertRule.objects.create(name="<img src=x onerror=alert(1)>", metric="tenant_memory_pct", threshold=1)
    mine, other = opened(rule, tenant), opened(rule, TenantFactory())
    assert [row["id"] for row in said(api.get("alerts"), 200)["items"]] == [str(mine.public_id)]
    assert len(said(root.get("alerts"), 200)["items"]) == 2
    assert said(root.get("alerts?state=resolved"), 200)["items"] == []
    found = said(root.get(f"alerts?tenant={other.tenant.public_id}&state=firing"), 200)["items"]
    assert [row["tenant"]["slug"] for row in found] == [other.tenant.slug]
    assert said(api.get(f"alerts/{mine.public_id}"), 200)["subject"] == tenant.slug


def test_a_silence_needs_a_time_that_makes_sense(api, tenant):
    where = {"tenant": str(tenant.public_id)}
    now = clock.now()
    for until in (now - timedelta(seconds=1), now + timedelta(days=31)):
        assert refused(api.post("alerts/silences", {**where, "until": until.isoformat()}), 422) == "invalid_field"
    assert refused(api.post("alerts/silences", {**where, "until": "2026-12-01T06:00:00"}), 422) == "invalid_field"
    assert not Silence.objects.exists()


def test_b_a_key_that_may_only_read_sets_nothing_up(manager, tenant):
    api = Api(key_of(manager, "read"))
    for path in ("alerts", "alerts/rules", "alerts/notifiers", "alerts/silences"):
        assert refused(api.get(path), 403) == "scope_too_narrow"
    assert refused(api.post("alerts/rules", {**RULE, "tenant": str(tenant.public_id)}), 403) == "scope_too_narrow"


def test_a_changed_condition_ends_the_open_alerts(api, tenant):
    rule = AlertRule.objects.create(tenant=tenant, name="x", metric="tenant_memory_pct", threshold=1)
    notifier = Notifier.objects.create(tenant=tenant, name="team", kind="webhook", config={})
    alert = opened(rule, tenant)
    Delivery.objects.create(alert=alert, notifier=notifier, notice="fire", message={}, state="sent")
    said(patch(api, f"alerts/rules/{rule.public_id}", {"name": "y"}), 200)
    assert Alert.objects.get().state == "firing"
    said(patch(api, f"alerts/rules/{rule.public_id}", {"threshold": 2}), 200)
    assert Alert.objects.get().state == "resolved"
    assert list(Delivery.objects.order_by("pk").values_list("notice", flat=True)) == ["fire", "resolve"]


def test_a_write_sent_twice_under_one_key_is_done_once(api, tenant):
    body = {**HOOK, "tenant": str(tenant.public_id)}
    first = said(api.post("alerts/notifiers", body, idempotency_key="k1"), 201)
    again = said(api.post("alerts/notifiers", body, idempotency_key="k1"), 201)
    assert (first["id"], Notifier.objects.count()) == (again["id"], 1)
    assert first["secret"] and again["secret"] != first["secret"]


def test_the_notifiers_of_a_deleted_tenant_go_with_their_secrets(tenant):
    from monitoring.alerting import sweeps

    made = contacts.create_notifier(actor=OPERATOR, tenant=tenant, **HOOK)
    type(tenant).objects.update(status="deleted")
    sweeps.evaluate_rules()
    assert not Notifier.objects.filter(pk=made.notifier.pk).exists()
    assert not Secret.objects.filter(purpose="notifier").exists()


def test_old_alerts_are_forgotten_and_open_ones_stay(tenant):
    rule = AlertRule.objects.create(name="x", metric="tenant_memory_pct", threshold=1)
    long_ago = clock.now() - timedelta(days=91)
    opened(rule, tenant, state="resolved", resolved_at=long_ago)
    stays = opened(rule, tenant, since=long_ago)
    assert services.prune() == 1
    assert Alert.objects.get() == stays


def opened(rule, tenant, **fields):
    now = clock.now()
    given = {"since": now, "seen_at": now, "state": "firing", "subject": str(tenant.public_id), **fields}
    about = {"name": rule.name, "severity": "warning", "condition": "x", "label": tenant.slug}
    return Alert.objects.create(rule=rule, tenant=tenant, **about, **given)


def soon():
    return (clock.now() + timedelta(hours=1)).isoformat()


def without_id(answer):
    body = answer.json()
    body["error"].pop("request_id")
    return body
