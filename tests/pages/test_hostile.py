"""K5, K6, K7, K10, K12: forged forms, hostile texts in every field, and ways out of the site."""

from __future__ import annotations

import pytest

from accounts.models import User
from audit.models import AuditEntry
from monitoring.alerting.models import Delivery
from tenants.models import AgentConfig, Channel, Hold, Run, Tenant
from tests.pages import table
from tests.pages.conftest import browser

PAYLOAD = "<img src=x onerror=alert(1)><b hx-get=/x>\"'>"


def test_k5_a_form_without_the_token_or_with_another_session_s_is_refused(stage):
    owner = browser(stage.people["owner"], enforce_csrf_checks=True)
    for path in table.writes(stage):
        assert owner.post(path, {"typed": "acme"}).status_code == 403, path
        assert owner.post(path, {"typed": "acme"}, headers={"HX-Request": "true"}).status_code == 403, path
    other = browser(stage.people["manager"], enforce_csrf_checks=True)
    other.get(table.of(stage.tenant, "overview"))
    token = other.cookies["zc_csrf"].value
    answer = owner.post(table.of(stage.tenant, "act", "restart"), headers={"X-CSRFToken": token})
    assert answer.status_code == 403
    assert not Run.objects.filter(kind="restart").exists()


@pytest.mark.parametrize("origin", ["http://evil.localhost:8000", "null", "https://agents.example.com"])
def test_k6_a_form_from_a_sibling_is_refused_whatever_token_it_carries(stage, origin):
    owner = browser(stage.people["owner"], enforce_csrf_checks=True)
    owner.get(table.of(stage.tenant, "overview"))
    token = owner.cookies["zc_csrf"].value
    headers = {"X-CSRFToken": token, "Origin": origin, "Sec-Fetch-Mode": "no-cors"}
    assert owner.post(table.of(stage.tenant, "act", "restart"), headers=headers).status_code == 403


def test_k7_a_cookie_that_a_sibling_can_set_is_not_looked_at(stage, settings):
    """Behind https: a browser lets no sibling set a name with __Host-, and any other name is nobody's here."""
    settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME = "__Host-zc_session", "__Host-zc_csrf"
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    page, owner = table.of(stage.tenant, "overview"), browser(stage.people["owner"], enforce_csrf_checks=True)
    assert owner.get(page, secure=True).status_code == 200
    for name, cookie in owner.cookies.items():
        assert (name[:7], cookie["domain"] or "", cookie["path"], cookie["secure"]) == ("__Host-", "", "/", True)
    session, token = owner.cookies["__Host-zc_session"].value, owner.cookies["__Host-zc_csrf"].value
    victim = browser()
    for name in ("sessionid", "zc_session"):
        victim.cookies[name] = session
    assert victim.get(page, secure=True).status_code == 302, "nobody is logged in by the sibling's cookie"
    del owner.cookies["__Host-zc_csrf"]
    for name in ("csrftoken", "zc_csrf"):
        owner.cookies[name] = token
    headers = {"X-CSRFToken": token, "Referer": f"https://testserver{page}"}
    act = table.of(stage.tenant, "act", "restart")
    assert owner.post(act, headers=headers, secure=True).status_code == 403
    owner.cookies["__Host-zc_csrf"] = token
    assert owner.post(act, headers=headers, secure=True).status_code != 403, "it was the cookie's name that was wrong"


@pytest.fixture
def poisoned(stage):
    """The payload in every text that somebody or something could have written, past every check."""
    Tenant.objects.filter(pk=stage.tenant.pk).update(name=PAYLOAD, detail=PAYLOAD)
    AgentConfig.objects.filter(tenant=stage.tenant).update(
        provider_name="openai", provider_model=PAYLOAD, base_url=PAYLOAD, extra_config={"x": PAYLOAD}
    )
    Channel.objects.filter(tenant=stage.tenant).update(config={"allowed_users": [PAYLOAD]})
    Hold.objects.create(tenant=stage.tenant, kind="operator", note=PAYLOAD, set_by=PAYLOAD)
    User.objects.filter(pk=stage.member.user_id).update(name=PAYLOAD)
    Run.objects.filter(tenant=stage.tenant).update(error=PAYLOAD, actor=PAYLOAD, status="failed")
    stage.run.steps.update(error=PAYLOAD)
    stage.tenant.access_tokens.update(name=PAYLOAD)
    stage.tenant.invitations.update(role=PAYLOAD[:40])
    stage.tenant.revisions.update(actor=PAYLOAD)
    stage.tenant.alerts.update(name=PAYLOAD, label=PAYLOAD, condition=PAYLOAD, acked_by=PAYLOAD)
    stage.tenant.alert_rules.update(name=PAYLOAD)
    stage.tenant.silences.update(note=PAYLOAD, created_by=PAYLOAD)
    stage.tenant.notifiers.update(name=PAYLOAD, config={"to": [PAYLOAD]})
    Delivery.objects.create(alert=stage.alert, notifier=stage.notifier, notice="fire", message={}, error=PAYLOAD)
    for agent in stage.world.agents():
        agent.output[:] = [PAYLOAD]
    return stage


@pytest.mark.parametrize("who", ["owner", "super-admin"])
def test_k10_k11_a_hostile_text_is_only_a_text_on_every_page(poisoned, who):
    client = browser(poisoned.people[who])
    paths = ["/", "/tenants/", "/tenants/?q=%3Cimg%20src=x%3E", f"/runs/{poisoned.run.public_id}"]
    paths += ["/alerts", "/alerts?state=resolved"]
    if who == "super-admin":
        paths += ["/admin/", "/admin/tenants/tenant/", "/admin/audit/auditentry/", "/admin/tenants/run/"]
        paths += ["/admin/health/", f"/admin/tenants/tenant/{poisoned.tenant.pk}/change/"]
    seen = 0
    for path in [*paths, *table.reads(poisoned)]:
        answer = client.get(path)
        text = answer.content.decode()
        if answer["Content-Type"].startswith("text/html"):
            assert "<img src=x" not in text, path
            assert "<b hx-get" not in text, path
            seen += "&lt;img src=x onerror" in text
            policy = answer["Content-Security-Policy"]
            assert "script-src 'self'" in policy
            assert "unsafe-inline" not in policy
    assert seen > 8  # the payload did arrive on the pages


def test_nothing_inline_on_any_page(stage):
    """The policy would block it; so it must not be there to be missed."""
    client = browser(stage.people["super-admin"])
    for path in ["/", "/tenants/", "/alerts", "/new-tenant", f"/runs/{stage.run.public_id}", *table.reads(stage)]:
        answer = client.get(path)
        if answer["Content-Type"].startswith("text/html"):
            text = answer.content.decode()
            assert " style=" not in text, path
            assert " onclick=" not in text, path
            assert "<style" not in text, path
            scripts = [part.split(">")[0] for part in text.split("<script")[1:]]
            assert all("src=" in part or 'type="application/json"' in part for part in scripts), path


@pytest.mark.parametrize("place", ["//evil.example", "/\\evil.example", "https:evil.example", "javascript:alert(1)"])
def test_k12_the_login_leads_back_into_this_site_alone(stage, place):
    answer = browser().get("/login", {"next": place})
    assert place not in answer.content.decode()


def test_the_search_s_own_word_is_escaped_and_null_bytes_do_no_harm(stage):
    client = browser(stage.people["super-admin"])
    assert client.get("/tenants/?q=%00&status=%00&plan=%00&after=%00").status_code == 200
    assert client.get(table.of(stage.tenant, "runs") + "?after=9999999999999999999999").status_code == 200
    assert client.get(table.of(stage.tenant, "audit") + "?after=-1").status_code == 200


def test_a_formula_in_the_audit_stays_a_text_in_a_spreadsheet(stage):
    from django.db import transaction

    from audit.services import Target, record
    from zcplatform.lib.actors import OPERATOR

    with transaction.atomic():
        record("tenant.update", actor=OPERATOR, target=Target("tenant", "1", "=cmd|' /C calc'!A0"))
    boss = browser(stage.people["super-admin"])
    text = boss.post("/admin/audit/auditentry/export/csv/?action=tenant.update").content.decode()
    assert "'=cmd" in text
    assert AuditEntry.objects.filter(action="audit.export").count() == 1
    assert boss.get("/admin/audit/auditentry/export/csv/").status_code == 405
    rows = boss.post("/admin/audit/auditentry/export/json/?action=tenant.update").json()
    assert [row["action"] for row in rows] == ["tenant.update"]
    assert boss.post("/admin/audit/auditentry/export/xml/").status_code == 404
