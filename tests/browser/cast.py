"""A little fleet in every state, for what is looked at rather than acted on."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.browser.site import LIMIT_S, Site

CODE = """
from accounts.models import User
from audit.models import AuditEntry
from monitoring.alerting import agreements, contacts, services as alerting
from monitoring.alerting.message import condition_of
from monitoring.alerting.models import Alert, AlertRule
from monitoring.models import ResourceSnapshot
from tenants import configuration, invitations, services
from tenants.configuration import ConfigInput
from tenants.models import Member, Tenant
from tenants.records import UsageHour
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.redact import SecretStr
from datetime import timedelta
import json
import math

def person(email, name):
    user = User.objects.filter(email=email).first() or User.objects.create_user(email=email)
    user.name = name
    user.save()
    return user

acme, globex, initech = (Tenant.objects.get(slug=slug) for slug in ("acme", "globex", "initech"))
for email, name, role in (
    ("dana@example.com", "Dana Reyes", "owner"),
    ("mika@example.com", "Mika Sato", "manager"),
    ("vic@example.com", "Vic Moreau", "viewer"),
):
    Member.objects.get_or_create(tenant=acme, user=person(email, name), defaults={"role": role})
person("kim@example.com", "")
invitations.invite(actor=OPERATOR, tenant=acme, email="kim@example.com", role="contributor")
person("lena@example.com", "Lena Novak")
gone = services.create_tenant(actor=OPERATOR, name="Hooli", plan="pro").tenant
deletion = services.delete(actor=OPERATOR, tenant=gone)
draft = services.create_tenant(actor=OPERATOR, name="Umbrella", plan="pro").tenant
token = SecretStr("0000000000:" + "A" * 35)
channel, _ = configuration.add_channel(actor=OPERATOR, tenant=draft, kind="telegram", values={"bot_token": token})
services.suspend(actor=OPERATOR, tenant=globex, note="invoice of October is open")
configuration.update(actor=OPERATOR, tenant=initech, given=ConfigInput(extra={"faults": {"exit_code": 3}}))
run = initech.runs.order_by("-pk").first()
good = acme.runs.order_by("pk").first()
values = {"name": "Disk is in use", "metric": "tenant_disk_pct", "comparison": "ge", "threshold": 0}
rule = alerting.create_rule(actor=OPERATOR, tenant=acme, values=values)  # holds whatever is measured
now = clock.now()
for state, ago in (("firing", 20), ("resolved", 300)):
    at = now - timedelta(minutes=ago)
    Alert.objects.create(
        rule=rule, tenant=acme, subject=str(acme.public_id), label="acme", name=rule.name, severity="warning",
        state=state, value=1.2, condition=condition_of(rule), since=at, seen_at=now, fired_at=at,
        resolved_at=None if state == "firing" else at + timedelta(minutes=45),
    )
cpu = AlertRule.objects.get(key="tenant-cpu")
alerting.silence(actor=OPERATOR, until=now + timedelta(days=1), rule=cpu, tenant=acme, note="load test until tomorrow")
mail = {"to": ["oncall@example.com"]}
told = contacts.create_notifier(actor=OPERATOR, tenant=acme, kind="mail", name="On call", config=mail).notifier
contacts.test_notifier(actor=OPERATOR, notifier=told)
MB, minute = 2**20, int(now.timestamp()) // 60 * 60
for at in range(2, 1_440):  # a day, in which nothing was measured for an hour
    if not 400 < at < 460:
        wave = math.sin(at / 90) + math.sin(at / 11) / 3
        ResourceSnapshot.objects.create(
            tenant=acme, ts=minute - 60 * at, cpu_mpct=int(22_000 + 14_000 * wave), cpu_limit_pct=100,
            mem_bytes=int((11 + 2 * wave) * MB), mem_limit=1_024 * MB, disk_bytes=16_384 - at * 4,
            net_in=int((1.4 + wave) * 40_000), net_out=int((1.4 + wave) * 90_000), pids=6,
        )
for at in range(24):
    busy = int(30 + 20 * math.sin(at / 4))
    counts = {"messages_in": busy, "messages_out": busy, "tokens_in": busy * 900, "tokens_out": busy * 400}
    UsageHour.objects.update_or_create(tenant=acme, period_start=minute // 3_600 * 3_600 - 3_600 * at, defaults=counts)
ids = {"failed": run, "run": good, "deletion": deletion, "channel": channel, "rule": rule, "notifier": told}
ids["member"] = acme.members.get(user__email="vic@example.com")
agreement = agreements.link_for(acme, "oncall@example.com").split("/", 3)[3]
keys = {"agreement": "/" + agreement, "plan": acme.plan_id, "user": User.objects.get(email="dana@example.com").pk}
keys |= {"initech": initech.pk, "draft": draft.pk, "failed_run": run.pk, "entry": AuditEntry.objects.latest("pk").pk}
print(json.dumps({**keys, **{name: str(row.public_id) for name, row in ids.items()}}))
"""


def play(site: Site) -> dict[str, Any]:
    """Make the fleet and wait until the broken tenant is known to be broken; ids of what pages need."""
    for name in ("Acme", "Globex", "Initech"):
        site.manage("provision", name, "--plan", "pro", "--runtime", "process", "--json")
    ids: dict[str, Any] = json.loads(site.manage("shell", "-v", "0", "-c", CODE).strip().splitlines()[-1])
    ask = "from tenants.models import Tenant; print(Tenant.objects.get(slug='initech').status)"
    until = time.monotonic() + 2 * LIMIT_S
    while site.manage("shell", "-v", "0", "-c", ask).strip() != "error":
        assert time.monotonic() < until, "the broken tenant never broke"
        time.sleep(1)
    return ids


def measured(site: Site) -> None:
    """Wait until the host was measured: what is not known yet is no picture of a day."""
    ask = "from monitoring.models import Sweep; print(Sweep.objects.filter(name='disks', items__gt=0).count())"
    until = time.monotonic() + 3 * LIMIT_S
    while site.manage("shell", "-v", "0", "-c", ask).strip() != "1":
        assert time.monotonic() < until, "nothing was measured"
        time.sleep(2)


def admin_pages() -> list[str]:
    """Every list of the admin, with what else it lets a super-admin open: the form for a new row, and the pages of the
    newest row. Called inside the platform."""
    from django.contrib import admin
    from django.test import RequestFactory
    from django.urls import reverse

    from accounts.models import User

    request = RequestFactory().get("/")
    request.user = User.objects.filter(is_superuser=True).first()
    paths = [reverse("admin:index"), reverse("admin:platform_health")]
    for model, shown in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        paths.append(reverse(f"{name}_changelist"))
        if shown.has_add_permission(request):
            paths.append(reverse(f"{name}_add"))
        if row := model.objects.order_by("-pk").first():
            kinds = ["change", "history"] + ["delete"] * shown.has_delete_permission(request, row)
            paths += [reverse(f"{name}_{kind}", args=[row.pk]) for kind in kinds]
    return paths


def pages(ids: dict[str, Any]) -> dict[str, str]:
    """Every page by the name of its picture."""
    tabs = (
        *("configuration", "channels", "members", "access", "pairing", "usage", "alerts"),
        *("logs", "console", "runs", "audit"),
    )
    alerts = "/tenants/acme/alerts"
    return {
        "dashboard": "/",
        "tenants": "/tenants/",
        "tenants-deleted": "/deleted-tenants",
        "tenants-none-match": "/tenants/?q=nobody",
        "new-tenant": "/new-tenant",
        "setup-token": "/tenants/umbrella/setup/token",
        "setup-model": "/tenants/umbrella/setup/model",
        "setup-channels": "/tenants/umbrella/setup/channels",
        "setup-review": "/tenants/umbrella/setup/review",
        "tenant": "/tenants/acme/",
        "tenant-error": "/tenants/initech/",
        "tenant-suspended": "/tenants/globex/",
        **{f"tenant-{tab}": f"/tenants/acme/{tab}" for tab in tabs},
        "tenant-history": "/tenants/initech/configuration/history",
        "tenant-rollback": "/tenants/initech/configuration/history/1",
        "channel-add": "/tenants/acme/channels/add/telegram",
        "channel": f"/tenants/umbrella/channels/{ids['channel']}",
        "alerts": "/alerts",
        "alert-rules": f"{alerts}/rules",
        "alert-rule": f"{alerts}/rules/{ids['rule']}",
        "alert-silence": f"{alerts}/silence",
        "notifiers": f"{alerts}/notifiers",
        "notifier": f"{alerts}/notifiers/{ids['notifier']}",
        "notifier-add": f"{alerts}/notifiers/add/webhook",
        "agreement": ids["agreement"],
        "notifier-delete": f"{alerts}/notifiers/{ids['notifier']}/delete",
        "pairing-reset": "/tenants/acme/pairing/reset",
        "rename": "/tenants/acme/rename",
        "transfer": "/tenants/acme/transfer",
        "delete": "/tenants/acme/do/delete",
        "suspend": "/tenants/acme/do/suspend",
        "run": f"/runs/{ids['run']}",
        "run-failed": f"/runs/{ids['failed']}",
        "run-deleted": f"/runs/{ids['deletion']}",
        "account": "/account",
        "not-found": "/tenants/nobody/",
        "admin": "/admin/",
        "admin-tenants": "/admin/tenants/tenant/",
        "admin-tenant": f"/admin/tenants/tenant/{ids['initech']}/change/",
        "admin-runs": "/admin/tenants/run/",
        "admin-run": f"/admin/tenants/run/{ids['failed_run']}/change/",
        "admin-plans": "/admin/tenants/plan/",
        "admin-plan": f"/admin/tenants/plan/{ids['plan']}/change/",
        "admin-users": "/admin/accounts/user/",
        "admin-user": f"/admin/accounts/user/{ids['user']}/change/",
        "admin-nodes": "/admin/tenants/node/",
        "admin-audit": "/admin/audit/auditentry/",
        "admin-audit-entry": f"/admin/audit/auditentry/{ids['entry']}/change/",
        "admin-health": "/admin/health/",
    }


def more_pages(ids: dict[str, Any]) -> dict[str, str]:
    """What is looked after like all others and makes no picture."""
    acme, tenant = "/tenants/acme", f"/admin/tenants/tenant/{ids['initech']}"
    draft = f"/admin/tenants/tenant/{ids['draft']}/channels/{ids['channel']}"
    return {
        path: path
        for path in (
            *(
                "/alerts?state=resolved",
                f"{acme}/usage?range=7d",
                "/api/docs",
                "/login",
                "/tenants/globex/do/reactivate",
            ),
            *(f"{acme}/access/rotate", f"{acme}/members/{ids['member']}/remove", f"{acme}/do/resize"),
            *(f"{acme}/alerts/rules/add", f"{acme}/alerts/rules/{ids['rule']}/delete"),
            *(f"/tenants/umbrella/channels/{ids['channel']}/remove", f"{tenant}/configuration/"),
            *(f"{tenant}/channels/add/", f"{tenant}/channels/add/telegram/", f"{draft}/", f"{draft}/delete/"),
            *(f"{tenant}/do/delete/", f"{tenant}/do/suspend/", f"{tenant}/logs/"),
        )
    }
