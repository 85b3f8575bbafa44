"""What comes in: unknown fields, wrong types, everything too long, sorting and filtering by what is not listed."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tenants.models import Tenant
from tests.api.table import BODIES, rows
from tests.api.test_permissions import ask, filled

pytestmark = pytest.mark.usefixtures("lasting")
WITH_BODY = [
    route
    for route in BODIES
    if not route.startswith(
        ("POST /auth", "POST /users", "POST /admin/users", "PATCH /admin/users", "POST /alerts", "PATCH /alerts")
    )
]
LISTS = ["/tenants", "/plans", *(f"/tenants/{{tenant_id}}/{name}" for name in (
    "runs", "channels", "members", "invitations", "access-tokens", "audit", "config/revisions"))]  # fmt: skip


def send(people, route, ids, body):
    method, path = route.split()
    return people.super_admin(method, filled(path, {**people.super_admin.own, **ids}), body)


NOT_ASKED_FOR = (
    "is_super_admin", "is_superuser", "role_id", "tenant_id", "port", "uid", "slot", "status", "desired", "id",
    "public_id", "pk", "user_id", "created_at", "__class__", "config.provider", "",
)  # fmt: skip


ASKED_FOR = {"is_superuser": ("POST /admin/users", "PATCH /admin/users/{user_id}")}


@pytest.mark.parametrize("route", BODIES)
def test_c5_a_field_that_is_not_asked_for_is_refused(people, ids, route):
    for field in NOT_ASKED_FOR:
        if route in ASKED_FOR.get(field, ()):
            continue
        answer = send(people, route, ids, {**BODIES[route], field: 1})
        assert answer.status_code == 422, (field, answer.content)
        assert answer.json()["error"]["type"] == "invalid_field"


@pytest.mark.parametrize("route", WITH_BODY)
def test_c5_plan_and_role_are_only_where_they_belong(people, ids, route):
    for field in {"plan", "role", "owner", "runtime"} - set(BODIES[route]):
        if route == "POST /tenants" and field in ("owner", "runtime"):
            continue
        assert send(people, route, ids, {**BODIES[route], field: "pro"}).status_code == 422


@pytest.mark.parametrize("route", WITH_BODY)
def test_a_body_that_is_no_object_is_refused(people, ids, route):
    for body in ([], "x", 5, True, [{}], "null"):
        answer = send(people, route, ids, body)
        assert answer.status_code in (400, 422), (body, answer.content)


@pytest.mark.parametrize("route", WITH_BODY)
def test_texts_are_bounded_and_no_number_is_taken_for_one(people, ids, route):
    for field, value in BODIES[route].items():
        wrong = ["x" * 70_000, 5] if isinstance(value, str) else ["5", 5.5, True, 10**30, None]
        for bad in wrong:
            if route == "POST /tenants/{tenant_id}/exec" and bad != 5 and isinstance(bad, str):
                bad = ["x" * 70_000]
            if bad is None or (field == "cpu_limit" and bad == 5.5) or (bad is True and value in (True, False)):
                continue
            answer = send(people, route, ids, {**BODIES[route], field: bad})
            assert answer.status_code == 422, (field, bad, answer.content)


NOT_LISTED = (
    "order=pk", "order=tenant__slug", "order=?", "order=--created_at", "order=token_hash", "order_by=id",
    "filter[id]=1", "_connector=OR", "tenant=1", "id__gt=0", "cursor=x", "cursor=WyJhIl0", "limit=0", "limit=x",
)  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_c14_lists_are_sorted_and_filtered_by_what_is_listed_only(people, ids, path):
    for query in NOT_LISTED:
        answer = people.super_admin.get(f"{filled(path, ids)}?{query}")
        assert answer.status_code == 422, (query, answer.content)


@pytest.mark.parametrize("query", ["status=flying", "status=", "plan=" + "x" * 41, "search=" + "x" * 101])
def test_c14_filters_take_their_own_values_only(people, ids, query):
    assert people.owner.get(f"/tenants?{query}").status_code == 422


@pytest.mark.parametrize("path", LISTS)
def test_m5_a_page_is_capped(people, ids, path):
    assert people.super_admin.get(f"{filled(path, ids)}?limit=1000000000").status_code == 200


def test_a_search_is_a_text_and_no_pattern(people, ids):
    for word in ("%", "_", "\\", "'", '"', ";--", "é", "a" * 100):
        assert people.super_admin.get(f"/tenants?search={quote(word)}").json()["items"] == [], word
    assert people.super_admin.get("/tenants?search=%00").status_code == 422


@pytest.mark.parametrize("route", [route for route in rows() if "_id}" in route])
def test_an_id_that_is_none_is_refused_and_never_a_fault(people, ids, route):
    for text in ("x", "1", "' OR 1=1", "..", "%00", "{tenant}"):
        answer = ask(people.super_admin, route, dict.fromkeys([*ids, "key_id", "session_id"], text))
        assert answer.status_code in (404, 405, 422), (text, answer.content)


def test_a_name_of_another_kind_stays_text(people, ids):
    names = ["<script>alert(1)</script>", "{{7*7}}", "'; DROP TABLE tenants; --", "日本語", "a" * 100]
    for name in names:
        made = people.super_admin.post(
            "/tenants", {"name": name, "slug": f"s{names.index(name)}xx", "plan": "pro", "deploy": False}
        )
        assert made.status_code == 201, made.content
        assert made.json()["tenant"]["name"] == name
    assert Tenant.objects.filter(name__in=names).count() == len(names)


def test_d_slugs_are_checked_here_too(people, ids):
    for slug in ("ac\nme", "*", "a.b", "{env.X}", "api", "xn--a", "-a", "A B", "ä", "a" * 31, ""):
        answer = people.super_admin.post("/tenants", {"name": "X", "slug": slug, "plan": "pro", "deploy": False})
        assert answer.status_code == 422, (slug, answer.content)
