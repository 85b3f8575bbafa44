"""What takes an ``Idempotency-Key`` runs inside a transaction, on SQLite the one of all writers: it waits for nothing
outside. What does call out takes no key."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import time

import pytest
from django.db import connection

from accounts import logins, rates, stepup, tokens
from accounts.models import ApiKey, IdempotencyKey, Login, User
from audit.models import AuditEntry
from tenants.models import Member
from tests.api.conftest import Api, Undone, as_user, with_key
from tests.api.test_permissions import ask
from tests.factories import MemberFactory
from tests.fakes import ServingRuntime
from zcplatform import api_docs
from zcplatform.lib import clock, http

WITHOUT_KEY = {
    # They let people in and out, and are worth nothing twice: a code, a refresh token and a session each work once.
    "POST /auth/otp/request", "POST /auth/otp/verify", "POST /auth/totp/verify", "POST /auth/refresh",
    "POST /auth/logout", "POST /auth/step-up",
    # They change nothing of ours and ask somebody outside, or nobody at all.
    "POST /tenants/{tenant_id}/provider/test", "POST /tenants/{tenant_id}/channels/{channel_id}/test",
    "POST /alerts/notifiers/{notifier_id}/test", "POST /tenants/{tenant_id}/config/preview",
    # It runs for as long as the command does.
    "POST /tenants/{tenant_id}/exec",
}  # fmt: skip


def takes_key(operation):
    return any(parameter.get("name") == "Idempotency-Key" for parameter in operation.get("parameters", []))


WRITES = {
    f"{method.upper()} {path.removeprefix('/api')}": operation
    for path, operations in api_docs.document()["paths"].items()
    for method, operation in operations.items()
    if method != "get"
}


def test_every_write_takes_a_key_but_what_calls_out_and_what_lets_in():
    assert {route for route, operation in WRITES.items() if not takes_key(operation)} == WITHOUT_KEY


OUTSIDE = (
    (http, "request"), (socket, "getaddrinfo"), (subprocess, "Popen"), (smtplib, "SMTP"), (time, "sleep"),
    *((ServingRuntime, verb) for verb in ("check", "list", "inspect", "create", "start", "stop", "remove", "exec")),
)  # fmt: skip


@pytest.fixture
def waited_for(monkeypatch):
    """What was asked of anybody but the database; nothing of it is really done."""
    asked = []
    for owner, name in OUTSIDE:
        monkeypatch.setattr(owner, name, lambda *a, name=name, **k: asked.append(name))
    return asked


@pytest.mark.parametrize("caller", ["owner", "super_admin"])
def test_a_write_with_a_key_waits_for_nobody_outside(caller, people, ids, waited_for):
    told = {}
    for route in sorted(set(WRITES) - WITHOUT_KEY):
        with Undone():
            told[route] = ask(getattr(people, caller), route, ids, **{"idempotency-key": "k-1"}).status_code
    assert waited_for == []
    assert sum(status < 300 for status in told.values()) > len(told) // 2


def test_a_write_with_a_key_counts_against_no_budget_inside_its_transaction(people, ids, monkeypatch):
    """Budgets may be counted in Redis, which may take seconds to answer or not to: not while others wait to write."""
    told, depths = {}, []

    def counted(*_parts, **_more):
        depths.append(len(connection.savepoint_ids))
        return True

    monkeypatch.setattr(rates, "_hit", counted)
    for route in sorted(set(WRITES) - WITHOUT_KEY):
        depths.clear()
        rates.permits.clear()  # so that the API's own limit is asked for each of them
        with Undone():
            outside = len(connection.savepoint_ids)
            told[route] = ask(people.owner, route, ids, **{"idempotency-key": "k-1"}).status_code
        assert depths, route
        assert max(depths) == outside, route
    assert sum(status < 300 for status in told.values()) > len(told) // 2


def test_what_calls_out_is_seen_to(people, ids, waited_for):
    ask(people.owner, "POST /tenants/{tenant_id}/provider/test", ids)
    assert waited_for == ["request"]


AGAIN = {"idempotency-key": "once"}


def renamed(caller, acme, name="Acme Two"):
    return caller.patch(f"/tenants/{acme.public_id}", {"name": name}, **AGAIN)


def manager_of(acme, role="manager"):
    return MemberFactory(tenant=acme, role=role)


def test_who_was_removed_is_told_nothing_by_sending_a_request_again(acme, people):
    member = manager_of(acme)
    caller = as_user(member.user)
    assert renamed(caller, acme).status_code in (200, 202)
    assert renamed(caller, acme)["Idempotency-Replayed"] == "true"
    member.delete()
    refused = renamed(caller, acme)
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found")
    assert "acme" not in refused.content.decode().lower()
    assert AuditEntry.objects.filter(action="access.denied", outcome="denied").exists()


def test_whose_role_was_narrowed_is_refused_as_if_it_were_the_first_time(acme, people):
    member = manager_of(acme)
    caller = as_user(member.user)
    assert renamed(caller, acme).status_code in (200, 202)
    Member.objects.filter(pk=member.pk).update(role="viewer")
    assert renamed(caller, acme).status_code == 403
    Member.objects.filter(pk=member.pk).update(role="manager")
    assert renamed(caller, acme)["Idempotency-Replayed"] == "true"


def test_who_may_no_longer_grant_a_role_is_refused(acme, people):
    giver, taker = manager_of(acme, "owner"), manager_of(acme, "viewer")
    caller = as_user(giver.user)
    path = f"/tenants/{acme.public_id}/members/{taker.public_id}"
    assert caller.patch(path, {"role": "owner"}, **AGAIN).status_code == 200
    Member.objects.filter(pk=giver.pk).update(role="manager")
    refused = caller.patch(path, {"role": "owner"}, **AGAIN)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "role_too_high")


def test_another_credential_of_the_same_user_is_judged_by_itself(acme, people):
    user = manager_of(acme).user
    writing, reading, other = with_key(user, "write"), with_key(user, "read"), as_user(user)
    assert renamed(writing, acme).status_code in (200, 202)
    refused = renamed(reading, acme)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "scope_too_narrow")
    assert "Idempotency-Replayed" not in renamed(other, acme)
    assert renamed(writing, acme)["Idempotency-Replayed"] == "true"


def test_a_revoked_key_is_told_nothing(acme, people):
    user = manager_of(acme).user
    caller = with_key(user, "write")
    assert renamed(caller, acme).status_code in (200, 202)
    ApiKey.objects.filter(user=user).update(revoked_at=clock.now())
    assert renamed(caller, acme).status_code == 401


def test_narrower_scopes_of_a_key_are_another_credential(acme, people):
    user = manager_of(acme).user
    caller = with_key(user, "write")
    assert renamed(caller, acme).status_code in (200, 202)
    ApiKey.objects.filter(user=user).update(scopes=["read"])
    assert renamed(caller, acme).status_code == 403


def test_a_second_factor_that_was_shown_long_ago_is_asked_for_again(acme, people):
    user = manager_of(acme, "owner").user
    User.objects.filter(pk=user.pk).update(second_factor_at=clock.now())
    login = logins.open_login(user, lifetime=tokens.LIFETIMES["access"], origin={}, verified=True)
    caller = Api(tokens.sign("access", sub=str(user.public_id), stamp=user.stamp, login=str(login.public_id)))
    path = f"/tenants/{acme.public_id}/rotate-secrets"
    assert caller.post(path, **AGAIN).status_code in (200, 202)
    assert caller.post(path, **AGAIN)["Idempotency-Replayed"] == "true"
    Login.objects.filter(pk=login.pk).update(verified_at=clock.now() - 2 * stepup.FRESH)
    refused = caller.post(path, **AGAIN)
    assert refused.status_code == 403, refused.content
    assert refused.json()["error"]["type"] == "step_up_required"


def test_every_write_that_took_a_key_notes_what_allowed_it(people, ids):
    """Or its answer would be told again to anybody with the same credential, whatever became of their role."""
    blank, done = [], 0
    for route in sorted(set(WRITES) - WITHOUT_KEY):
        with Undone():
            ask(people.owner, route, ids, **{"idempotency-key": "k-1"})
            row = IdempotencyKey.objects.filter(key="k-1").first()
            done += row is not None
            if row is not None and not row.grants:
                blank.append(route)
    assert done > len(WRITES) // 3
    assert set(blank) <= {"POST /invitations/accept"}  # which asks for the invited address and no role
