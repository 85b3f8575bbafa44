"""What takes an ``Idempotency-Key`` runs inside a transaction, on SQLite the one of all writers: it waits for nothing
outside. What does call out takes no key."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import time

import pytest
from django.db import connection

from accounts import rates
from tests.api.conftest import Undone
from tests.api.test_permissions import ask
from tests.fakes import ServingRuntime
from zcplatform import api_docs
from zcplatform.lib import http

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
