"""Server time of the pages with 10,000 tenants and a million audit rows: what a person waits for, less the network."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from accounts.models import User
from audit.models import AuditEntry
from monitoring.alerting.models import Alert
from tenants.models import AgentConfig, Run, Tenant
from tenants.records import UsageHour
from tests.bench import Row, size
from tests.factories import NodeFactory, PlanFactory, UserFactory
from zcplatform.lib import clock

TENANTS, AUDIT_ROWS, ALERTS, TIMES, BATCH = size((10_000, 1_000_000, 50_000, 40, 5_000), (100, 2_000, 200, 2, 1_000))
ONE = f"/tenants/t-{TENANTS // 2:05}"
TARGET = "≤ 150 ms"
PATHS = (
    "/",
    "/tenants/",
    "/tenants/?q=t-09&status=running",
    "/new-tenant",
    "/account",
    f"{ONE}/",
    f"{ONE}/configuration",
    f"{ONE}/configuration/history",
    f"{ONE}/channels",
    f"{ONE}/members",
    f"{ONE}/access",
    f"{ONE}/runs",
    f"{ONE}/usage",
    f"{ONE}/audit",
    f"{ONE}/alerts",
    f"{ONE}/alerts/rules",
    "/alerts",
    "/admin/",
    "/admin/tenants/tenant/",
    "/admin/tenants/run/",
    "/admin/tenants/plan/",
    "/admin/accounts/user/",
    "/admin/audit/auditentry/",
    "/admin/audit/auditentry/?q=nobody@example.test",
    "/admin/health/",
)


def run() -> list[Row]:
    call_command("migrate", verbosity=0)
    logging.disable(logging.INFO)  # a line per request would hide the table
    settings.ALLOWED_HOSTS = ["testserver", *settings.ALLOWED_HOSTS]
    client = Client()
    client.force_login(_fleet())
    return [Row(f"{path}, p95", f"{_p95_ms(client, path):.0f} ms", TARGET) for path in PATHS]


def _p95_ms(client: Client, path: str) -> float:
    times = []
    for _ in range(TIMES + 1):
        began = perf_counter()
        assert client.get(path, follow=True).status_code == 200, path
        times.append((perf_counter() - began) * 1_000)
    return sorted(times[1:])[int(TIMES * 0.95) - 1]  # the first reads templates


def _fleet() -> User:
    plan: Any = PlanFactory()
    node: Any = NodeFactory()
    user: Any = UserFactory(email="bench@example.test", is_superuser=True)
    states = ("running", "stopped", "error", "running")
    rows = Tenant.objects.bulk_create(
        Tenant(slug=f"t-{at:05}", name=f"Tenant {at}", plan=plan, node=node, agent_kind="demo", status=states[at % 4])
        for at in range(TENANTS)
    )
    AgentConfig.objects.bulk_create(AgentConfig(tenant=row) for row in rows)
    Run.objects.bulk_create(Run(tenant=row, kind="provision", status="succeeded", actor="system") for row in rows)
    hour = int(clock.now().timestamp()) // 3_600 * 3_600
    UsageHour.objects.bulk_create(
        UsageHour(tenant_id=row.pk, period_start=hour, messages_in=1, tokens_in=row.pk) for row in rows
    )
    Alert.objects.bulk_create(_alert(at, rows[at % TENANTS]) for at in range(ALERTS))
    for start in range(0, AUDIT_ROWS, BATCH):
        with transaction.atomic():
            part = range(start, start + BATCH)
            AuditEntry.objects.bulk_create(_entry(at, str(rows[at % TENANTS].public_id)) for at in part)
    return user


def _alert(at: int, tenant: Tenant) -> Alert:
    state, now = ("firing" if at % 10 == 0 else "resolved"), clock.now()
    about = {"condition": "x > 1", "since": now, "seen_at": now, "resolved_at": None if state == "firing" else now}
    return Alert(tenant=tenant, subject=str(at), name="Alert", severity="warning", state=state, **about)


def _entry(at: int, tenant: str) -> AuditEntry:
    return AuditEntry(
        created_at=clock.now(),
        action="tenant.update",
        outcome="ok",
        actor_email="somebody@example.test",
        tenant_id=tenant,
        previous_hash="0" * 64,
        hash=f"{at:064}",
    )
