"""Looking changes nothing (K9), sees nothing of others (C12), and costs the same however much there is."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.models import Channel, Member, Tenant
from tests.api.conftest import as_user
from tests.api.table import rows
from tests.api.test_permissions import ask
from tests.factories import MemberFactory, RunFactory, TenantFactory

pytestmark = pytest.mark.usefixtures("lasting")
GETS = [route for route in rows() if route.startswith("GET ")]
# Rows about the request itself: the audit of who read secrets, and when a credential was last used.
ABOUT_REQUESTS = {"AuditEntry", "RateWindow"}


def everything():
    models = [model for model in apps.get_models() if model.__name__ not in ABOUT_REQUESTS]
    return {model.__name__: sorted(map(str, model.objects.values_list())) for model in models}


@pytest.mark.parametrize("route", GETS)
def test_k9_no_get_changes_a_row(people, ids, route):
    for caller in ("owner", "super_admin", "viewer", "stranger", "read_key"):
        api = getattr(people, caller)
        ask(api, "GET /plans", ids)  # the credential's last use is noted once a minute
        _asked_without_a_trace(api, route, ids)


def _asked_without_a_trace(api, route, ids):
    before = everything()
    answer = ask(api, route, ids)
    assert answer.status_code in (200, 403, 404)
    assert everything() == before


@pytest.mark.parametrize("route", GETS)
def test_c12_nothing_of_another_tenant_is_in_any_answer(people, ids, other, route):
    Tenant.objects.filter(pk=other.pk).update(name="canary-name", slug="canary-slug", detail="canary-detail")
    canaries = ["canary-", str(other.public_id), *map(str, other.channels.values_list("public_id", flat=True))]
    canaries += list(other.members.values_list("user__email", flat=True))
    for caller in ("viewer", "owner"):
        answer = ask(getattr(people, caller), route, ids)
        content = b"" if answer.streaming else answer.content
        assert not [word for word in canaries if word in content.decode()]
    assert people.owner.get("/tenants?search=canary").json()["items"] == []


def more_of_everything(tenant):
    for _ in range(5):
        MemberFactory(tenant=tenant)
        RunFactory(tenant=tenant, status="succeeded")
        Channel.objects.create(tenant=tenant, channel_type="webhook", config={})
        member = MemberFactory(tenant=TenantFactory(node=tenant.node), role="viewer")
        MemberFactory(tenant=member.tenant, user=tenant.members.get(role="owner", user__is_active=True).user)


# What each costs, sign-in included; a number that grows with the rows is a mistake.
QUERIES_OF = {
    "GET /tenants": 3,
    "GET /tenants/{tenant_id}": 4,
    "GET /tenants/{tenant_id}/status": 5,
    "GET /tenants/{tenant_id}/runs": 5,
    "GET /tenants/{tenant_id}/config": 6,
    "GET /tenants/{tenant_id}/config/revisions": 6,
    "GET /tenants/{tenant_id}/channels": 6,
    "GET /tenants/{tenant_id}/channels/{channel_id}": 6,
    "GET /tenants/{tenant_id}/members": 5,
    "GET /tenants/{tenant_id}/invitations": 5,
    "GET /tenants/{tenant_id}/access-tokens": 5,
    "GET /tenants/{tenant_id}/audit": 5,
    "GET /runs/{run_id}": 4,
    "GET /plans": 2,
}


@pytest.mark.parametrize("route", QUERIES_OF)
def test_the_number_of_queries_is_pinned_and_does_not_grow(people, ids, acme, route):
    counts = []
    for _ in range(2):
        ask(people.owner, route, ids)
        with CaptureQueriesContext(connection) as made:
            assert ask(people.owner, route, ids).status_code == 200
        counts.append(len(made))
        more_of_everything(acme)
    assert counts == [QUERIES_OF[route]] * 2, "\n".join(query["sql"][:150] for query in made.captured_queries)


def test_a_page_of_two_hundred_of_a_thousand_takes_the_same_queries(people, acme):
    owner = people.users["owner"]
    rows = [
        Tenant(slug=f"t{n}", name=f"T {n}", plan=acme.plan, node=acme.node, agent_kind="demo") for n in range(1_000)
    ]
    made = Tenant.objects.bulk_create(rows)
    Member.objects.bulk_create([Member(tenant=tenant, user=owner, role="viewer") for tenant in made])
    api = as_user(owner)
    api.get("/plans")
    with CaptureQueriesContext(connection) as queries:
        page = api.get("/tenants?limit=200").json()
    assert (len(page["items"]), len(queries)) == (200, QUERIES_OF["GET /tenants"])
    seen, cursor = set(), ""
    while cursor is not None:
        page = api.get(f"/tenants?limit=200{f'&cursor={cursor}' if cursor else ''}").json()
        seen |= {item["id"] for item in page["items"]}
        cursor = page["next_cursor"]
    assert len(seen) == 1_001
