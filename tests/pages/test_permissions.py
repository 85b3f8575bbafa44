"""Who may open which page: a stranger's tenant is absent, a role that does not reach is told which does."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.urls import get_resolver

from accounts.permissions import ROLES, SUPER_ADMIN_ONLY
from audit.models import AuditEntry
from tenants.models import Run
from tests.pages import table
from tests.pages.conftest import browser

PEOPLE = [*ROLES, "super-admin"]


def may(role, ability):
    return role == "super-admin" or (ability in ROLES[role] and ability not in SUPER_ADMIN_ONLY)


@pytest.mark.parametrize("role", PEOPLE)
def test_each_page_opens_for_those_roles_that_the_matrix_names(stage, role):
    client = browser(stage.people[role])
    for path, ability in table.reads(stage).items():
        answer = client.get(path)
        assert answer.status_code in ((200, 302) if may(role, ability) else (403,)), (path, role)


@pytest.mark.parametrize("role", ROLES)
def test_a_post_beyond_the_role_changes_nothing(stage, role):
    client = browser(stage.people[role])
    before = _counts(stage.tenant)
    for path, ability in table.writes(stage).items():
        if not may(role, ability):
            assert client.post(path, {"typed": stage.tenant.slug, "role": "owner"}).status_code == 403, path
    assert _counts(stage.tenant) == before


def _counts(tenant):
    several = tenant.members, tenant.channels, tenant.alert_rules, tenant.silences, tenant.notifiers
    return Run.objects.count(), *(rows.count() for rows in several)


def test_a_stranger_finds_nothing_by_any_method(stage):
    client = browser(stage.people["stranger"])
    for path in table.reads(stage):
        assert client.get(path).status_code == 404, path
    for path in table.writes(stage):
        assert client.post(path, {"typed": stage.tenant.slug}).status_code == 404, path
    assert client.get(f"/runs/{stage.run.public_id}").status_code == 404
    assert client.get(f"/runs/{stage.run.public_id}/live").status_code == 404


def test_nobody_is_sent_to_the_login_and_comes_back(stage):
    client = browser()
    for path in ["/", "/tenants/", "/alerts", "/new-tenant", f"/runs/{stage.run.public_id}", *table.reads(stage)]:
        answer = client.get(path)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/login?next=%2F"), path


def test_a_forbidden_page_says_which_roles_could_and_who_has_them(stage):
    page = browser(stage.people["viewer"]).get(table.of(stage.tenant, "logs"))
    text = page.content.decode()
    assert "contributor, manager, owner" in text
    assert "You are viewer of acme." in text
    assert stage.people["owner"].email in text
    assert AuditEntry.objects.filter(action="access.denied", outcome="denied").exists()


def test_what_only_super_admins_may_is_said_so(stage):
    page = browser(stage.people["owner"]).get(table.of(stage.tenant, "act", "suspend"))
    assert "only the platform" in page.content.decode()


@pytest.mark.parametrize("role", ROLES)
def test_pages_offer_nothing_that_would_be_refused(stage, role):
    client = browser(stage.people[role])
    for name in ("overview", "members", "channels", "configuration", "pairing", "alerts", "alert_rules", "notifiers"):
        page = client.get(table.of(stage.tenant, name)).content.decode()
        for kind, path in set(re.findall(r'(href|action)="(/tenants/acme/[^"?#]*)"', page)):
            ability = (table.reads(stage) if kind == "href" else table.writes(stage)).get(path)
            assert ability is None or may(role, ability) or path.endswith("/remove"), (name, path)


def test_every_page_of_a_tenant_is_in_the_table(stage):
    covered = {*table.reads(stage), *table.writes(stage)}
    names = [
        name
        for name in get_resolver().reverse_dict
        if isinstance(name, str) and name.startswith("tenant_") and name != "tenant_act"
    ]
    assert len(names) > 20
    missing = [name for name in names if not any(_matches(name, path) for path in covered)]
    assert missing == []


def _matches(name, path):
    from django.urls import resolve

    return resolve(path).url_name == name


def test_k9_no_get_changes_anything_but_what_is_recorded_of_looking(stage):
    client = browser(stage.people["super-admin"])
    client.get("/")  # the session's own first touch
    before = _rows()
    for path in ["/", "/tenants/", "/alerts", "/new-tenant", f"/runs/{stage.run.public_id}", *table.reads(stage)]:
        client.get(path)
    assert _rows() == before


def _rows():
    """Every table as it stands, but the audit (looking into secrets and refusals is recorded) and sessions."""
    left_out = {"audit_log", "django_session", "logins"}
    found = {}
    with connection.cursor() as cursor:
        for name in connection.introspection.table_names(cursor):
            if name not in left_out:
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(name)}")
                found[name] = sorted(map(repr, cursor.fetchall()))
    return found
