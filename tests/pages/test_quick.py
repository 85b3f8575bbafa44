"""What a page costs does not grow with the fleet: query counts with a thousand tenants."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from monitoring.alerting.models import AlertRule, Notifier, Silence
from tenants.models import AgentConfig, Channel, Member, Run, StepRecord, Tenant
from tenants.states import Reason, Status
from tests.factories import NodeFactory, PlanFactory, UserFactory
from tests.pages.conftest import browser
from zcplatform.lib import clock

STATUSES = (Status.RUNNING, Status.STOPPED, Status.ERROR, Status.DRAFT)
BOSS = {
    "/": 22,
    "/admin/": 22,
    "/tenants/": 6,
    "/tenants/?status=error&q=t": 6,
    "/new-tenant?key=1": 4,
    "/tenants/t-0001/": 13,
    "/tenants/t-0001/configuration": 8,
    "/tenants/t-0001/configuration/history": 6,
    "/tenants/t-0001/channels": 7,
    "/tenants/t-0001/access": 6,
    "/account": 4,
    "/admin/tenants/plan/": 4,
    "/admin/tenants/node/": 5,
    "/admin/accounts/user/": 5,
    "/tenants/t-0001/runs": 6,
    "/tenants/t-0001/audit": 6,
    "/tenants/t-0001/members": 8,
    "/tenants/t-0001/usage": 13,
    "/tenants/t-0001/pairing": 6,
    "/tenants/t-0001/alerts": 9,
    "/tenants/t-0001/alerts/rules": 7,
    "/tenants/t-0001/alerts/notifiers": 7,
    "/tenants/t-0001/logs": 5,
    "/tenants/t-0001/console": 5,
    "/tenants/t-0001/alerts/silence": 7,
    "/tenants/t-0001/alerts/rules/add": 5,
    "/tenants/t-0001/alerts/notifiers/add/webhook": 5,
    "/tenants/t-0001/rename": 5,
    "/tenants/t-0001/transfer": 7,
    "/tenants/t-0001/access/rotate": 5,
    "/tenants/t-0001/pairing/reset": 5,
    "/tenants/t-0001/do/delete": 5,
    "/tenants/t-0001/channels/add/telegram": 5,
    "/tenants/t-0003/setup/model": 6,
    "/tenants/t-0003/setup/channels": 6,
    "/tenants/t-0003/setup/review": 7,
    "/runs/<run>": 6,
    "/alerts": 4,
    "/admin/tenants/tenant/": 8,
    "/admin/tenants/run/": 4,
    "/admin/audit/auditentry/": 5,
    "/admin/health/": 18,
}


@pytest.fixture
def fleet(db):
    """A thousand tenants in four states, each with a configuration and a run; one user belongs to five hundred."""
    plan, node, user = PlanFactory(), NodeFactory(), UserFactory()
    rows = Tenant.objects.bulk_create(
        Tenant(
            slug=f"t-{at:04}",
            name=f"Tenant {at}",
            plan=plan,
            node=node,
            agent_kind="demo",
            status=STATUSES[at % 4],
            reason=Reason.CRASH_LOOP if at % 4 == 2 else Reason.NONE,
        )
        for at in range(1_000)
    )
    AgentConfig.objects.bulk_create(AgentConfig(tenant=row) for row in rows)
    Run.objects.bulk_create(Run(tenant=row, kind="provision", status="succeeded", actor="system") for row in rows)
    Member.objects.bulk_create(Member(tenant=row, user=user, role="manager") for row in rows[:500])
    AuditEntry.objects.bulk_create(
        AuditEntry(
            created_at=clock.now(),
            action="tenant.update",
            outcome="ok",
            tenant_id=str(row.public_id),
            previous_hash="0" * 64,
            hash=f"{at:064}",
        )
        for at, row in enumerate(rows)
    )
    return user


def cost(client, path):
    client.get(path)  # whatever is read once per process has been read
    with CaptureQueriesContext(connection) as caught:
        assert client.get(path).status_code == 200
    return len(caught)


def test_a_super_admin_s_pages_stay_within_their_queries(fleet, super_admin):
    client = browser(super_admin)
    run = str(Run.objects.get(tenant__slug="t-0001").public_id)
    found = {path: cost(client, path.replace("<run>", run)) for path in BOSS}
    over = {path: (count, BOSS[path]) for path, count in found.items() if count > BOSS[path]}
    assert over == {}, found


def grow(tenant, first):
    """Ten more of whatever a page of the tenant lists."""
    run, until = tenant.runs.get(), clock.now() + timedelta(hours=1)
    StepRecord.objects.bulk_create(
        StepRecord(run=run, name=f"step-{at}", position=at, started_at=until) for at in range(first, first + 10)
    )
    users = [UserFactory() for _ in range(first, first + 10)]
    Member.objects.bulk_create(Member(tenant=tenant, user=user, role="viewer") for user in users)
    about = {"tenant": tenant, "metric": "tenant_cpu_pct", "threshold": 80}
    rules = AlertRule.objects.bulk_create(AlertRule(name=f"Rule {at}", **about) for at in range(first, first + 10))
    Silence.objects.bulk_create(Silence(tenant=tenant, rule=rule, until=until) for rule in rules)
    Notifier.objects.bulk_create(
        Notifier(tenant=tenant, kind="mail", name=f"Mail {at}") for at in range(first, first + 10)
    )
    Channel.objects.bulk_create(
        Channel(tenant=tenant, channel_type="telegram", config={}) for _at in range(first, first + 10)
    )


def test_a_longer_list_costs_no_more(fleet, super_admin):
    client, tenant = browser(super_admin), Tenant.objects.get(slug="t-0003")
    pages = (
        *("members", "transfer", "channels", "setup/channels", "setup/review"),
        *("alerts", "alerts/rules", "alerts/silence", "alerts/notifiers"),
    )
    paths = [f"/runs/{tenant.runs.get().public_id}", *(f"/tenants/t-0003/{page}" for page in pages)]
    grow(tenant, 0)
    before = {path: cost(client, path) for path in paths}
    grow(tenant, 10)
    assert {path: cost(client, path) for path in paths} == before


def test_a_member_of_many_pays_no_more(fleet):
    client = browser(fleet)
    assert cost(client, "/") <= 12
    assert cost(client, "/tenants/") <= 9


def test_lists_count_no_further_than_ten_thousand(fleet, super_admin, monkeypatch):
    monkeypatch.setattr("zcplatform.lib.admin_lists.MOST", 150)
    client = browser(super_admin)
    with CaptureQueriesContext(connection) as caught:
        page = client.get("/admin/tenants/run/")
    assert page.context["cl"].result_count == 150
    counts = [query["sql"] for query in caught if "COUNT(" in query["sql"]]
    assert counts
    assert all("LIMIT 150" in sql for sql in counts if "runs" in sql)


def test_the_list_leads_on_from_page_to_page_without_a_gap(fleet, super_admin):
    client, seen, query = browser(super_admin), [], "status=running"
    while query:
        rows = client.get(f"/tenants/?{query}").context["rows"]
        seen += [tenant.slug for tenant in rows]
        query = rows.next
    assert seen == [f"t-{at:04}" for at in range(0, 1_000, 4)]
