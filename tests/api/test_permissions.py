"""C1: every route for every caller, as the table says. K8: none of them open by mistake."""

from __future__ import annotations

import json
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import connections
from tests.api.conftest import Undone, ids_of
from tests.api.table import BODIES, QUERIES, rows
from zcplatform import api_docs
from zcplatform.lib import http

pytestmark = pytest.mark.usefixtures("lasting")
ROWS = rows()


def filled(text, ids):
    for name, value in ids.items():
        text = text.replace("{" + name + "}", value)
    return text


def ask(api, route, ids, **headers):
    method, path = route.split()
    ids = {**api.own, **ids}
    body = json.loads(filled(json.dumps(BODIES[route]), ids)) if route in BODIES else None
    body = {} if body is None and method != "GET" else body
    return api(method, filled(path, ids) + QUERIES.get(route, ""), body, **headers)


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    monkeypatch.setattr(http, "request", lambda *a, **k: http.Reply(200, {}, b"{}"))
    assert connections.http is http


@pytest.mark.parametrize("route", ROWS)
def test_c1_every_caller_gets_what_the_table_says(route, people, ids):
    found = {}
    for caller, expected in ROWS[route].items():
        if expected is None:
            continue
        with Undone():
            answer = ask(getattr(people, caller), route, ids)
            found[caller] = answer.status_code
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"type", "message", "details", "request_id"}
    assert found == {caller: status for caller, status in ROWS[route].items() if status is not None}


def test_c1_no_route_is_missing_from_the_table():
    documented = {
        f"{method.upper()} {path.removeprefix('/api')}"
        for path, operations in api_docs.document()["paths"].items()
        for method in operations
    }
    assert documented - set(ROWS) == set()
    assert set(ROWS) - documented == set()


@pytest.mark.parametrize("route", [route for route in ROWS if "{tenant_id}" in route or "{run_id}" in route])
def test_c2_another_tenants_id_answers_like_one_that_does_not_exist(route, people, ids):
    nowhere = {**ids, "tenant_id": str(uuid.uuid4()), "run_id": str(uuid.uuid4())}
    told = []
    for where in (ids, nowhere):
        with Undone():
            answer = ask(people.stranger, route, where)
            body = answer.json()
            own = body["error"].pop("request_id")
            headers = {name: value for name, value in answer.headers.items() if value != own}
            headers.pop("RateLimit-Remaining", None)
            told.append((answer.status_code, body, headers, sorted(answer.cookies)))
    assert told[0] == told[1]
    assert told[0][0] == 404


@pytest.mark.parametrize("route", [route for route in ROWS if "{tenant_id}" in route or "{run_id}" in route])
def test_c2_the_same_queries_are_made_for_both(route, people, ids):
    nowhere = {**ids, "tenant_id": str(uuid.uuid4()), "run_id": str(uuid.uuid4())}
    verbs = []
    for where in (ids, nowhere):
        with Undone():
            ask(people.stranger, route, where)  # so that caches are filled alike
        with Undone(), CaptureQueriesContext(connection) as made:
            ask(people.stranger, route, where)
        told = [query["sql"].split("WHERE")[0] for query in made.captured_queries]
        verbs.append(["savepoint" if "SAVEPOINT" in sql else sql.split("VALUES")[0] for sql in told])
    assert verbs[0] == verbs[1]


CHILDREN = ("run_id", "channel_id", "member_id", "invitation_id", "token_id")


@pytest.mark.parametrize(
    "route", [route for route in ROWS if "{tenant_id}" in route and any("{" + name + "}" in route for name in CHILDREN)]
)
def test_c3_a_child_of_another_tenant_in_the_path_is_not_there(route, people, ids, other):
    foreign, nowhere = ids_of(other), {name: str(uuid.uuid4()) for name in CHILDREN}
    told = []
    for children in (foreign, nowhere):
        with Undone():
            answer = ask(people.owner, route, {**ids, **{name: children[name] for name in CHILDREN}})
            body = answer.json()
            body["error"].pop("request_id")
            told.append((answer.status_code, body))
    assert told[0] == told[1]
    assert told[0][0] == 404


@pytest.mark.parametrize("route", ["DELETE /users/me/api-keys/{key_id}", "DELETE /users/me/sessions/{session_id}"])
def test_c3_what_is_somebody_elses_alone_is_not_there_not_even_for_a_super_admin(route, people, ids):
    nowhere = {"key_id": str(uuid.uuid4()), "session_id": str(uuid.uuid4())}
    for caller in ("stranger", "viewer", "contributor", "manager", "owner", "super_admin"):
        told = []
        for theirs in (people.read_key.own if caller != "owner" else people.viewer.own, nowhere):
            with Undone():
                answer = ask(getattr(people, caller), route, {**ids, **theirs})
                body = answer.json()
                body["error"].pop("request_id")
                told.append((answer.status_code, body))
        assert told[0] == told[1]
        assert told[0][0] == 404


@pytest.mark.parametrize("route", [route for route in ROWS if "{" in route])
def test_c1_every_row_with_an_id_says_what_somebody_gets_who_may(route):
    """An id that nobody has would answer 404 to those who may and to those who may not."""
    assert any(status < 300 or status == 409 for status in ROWS[route].values() if status is not None)


def test_c4_no_body_takes_an_id_but_those_that_are_tested_here():
    schemas = api_docs.document()["components"]["schemas"]
    taking = {
        (name, field)
        for name, schema in schemas.items()
        if schema.get("additionalProperties") is False
        for field in schema.get("properties", {})
        if field == "id" or field.endswith(("_id", "_ids")) or field in ("tenant", "user", "member", "channel")
    }
    asking = {(name, field) for name, field in taking if name.endswith("Query")}
    of_tenants = {(name, "tenant") for name in ("RuleIn", "NotifierIn", "SilenceIn")}
    assert taking - asking - of_tenants == {("TransferIn", "member")}


@pytest.mark.parametrize("route", ["POST /alerts/rules", "POST /alerts/notifiers", "POST /alerts/silences"])
def test_c4_a_foreign_tenant_in_the_body_is_one_that_does_not_exist(people, other, route):
    told = []
    for tenant in (str(other.public_id), str(uuid.uuid4())):
        answer = people.owner.post(route.split()[1], {**BODIES[route], "tenant": tenant})
        told.append((answer.status_code, answer.json()["error"]["type"]))
    assert told[0] == told[1] and told[0][0] in (404, 422)


@pytest.mark.parametrize("path", ["/alerts", "/alerts/rules", "/alerts/notifiers", "/alerts/silences"])
def test_c4_a_foreign_tenant_in_the_query_is_one_that_does_not_exist(people, other, path):
    told = []
    for tenant in (other.public_id, uuid.uuid4()):
        answer = people.owner.get(f"{path}?tenant={tenant}")
        told.append((answer.status_code, answer.json().get("items"), answer.json().get("error", {}).get("type")))
    assert told[0] == told[1]


def test_c4_a_foreign_id_in_a_question_is_one_that_does_not_exist(people, other):
    told = []
    for tenant in (other.public_id, uuid.uuid4()):
        answer = people.owner.get(f"/explain?ability=tenant.view&tenant={tenant}")
        told.append((answer.status_code, answer.json()["error"]["type"]))
    assert told == [(404, "not_found")] * 2
    assert people.owner.get("/explain?ability=tenant.view&user=nobody@example.test").status_code == 403


def test_c4_a_member_of_another_tenant_in_the_body_is_none(people, ids, other):
    told = []
    for member in (ids_of(other)["member_id"], str(uuid.uuid4()), "no-uuid"):
        answer = people.owner.post(f"/tenants/{ids['tenant_id']}/transfer", {"member": member})
        told.append((answer.status_code, answer.json()["error"]["type"], answer.json()["error"]["message"]))
    assert set(told) == {(422, "unknown_member", "There is no such member in this tenant.")}
