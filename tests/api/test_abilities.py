"""Every ability is asked for somewhere: whoever has all but one is refused there by its name. What nothing asks for
would be a promise on the page of roles, or a lock that locks nothing."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest
from django.apps import apps

from accounts.models import Role
from accounts.permissions import ABILITIES, BEYOND_TENANTS, SUPER_ADMIN_ONLY, forget_custom_roles
from tests import architecture
from tests.api.conftest import Undone, as_user
from tests.api.table import BODIES
from tests.api.test_permissions import filled
from tests.factories import MemberFactory

pytestmark = pytest.mark.usefixtures("lasting")
T = "/tenants/{tenant_id}"
# Where each is asked for, with the body where that of the table will not do.
ASKED = {
    "tenant.view": f"GET {T}",
    "runs.view": f"GET {T}/runs",
    "metrics.view": f"GET {T}/metrics",
    "config.view": f"GET {T}/config",
    "channels.view": f"GET {T}/channels",
    "members.view": f"GET {T}/members",
    "logs.read": f"GET {T}/logs",
    "tenant.update": f"PATCH {T}",
    "tenant.deploy": f"POST {T}/deploy",
    "tenant.start": f"POST {T}/start",
    "tenant.stop": f"POST {T}/stop",
    "tenant.restart": f"POST {T}/restart",
    "config.update": f"PATCH {T}/config",
    "channels.update": f"POST {T}/channels",
    "provider.test": f"POST {T}/provider/test",
    "members.update": f"POST {T}/invitations",
    "pairing.manage": f"GET {T}/pairing-code",
    "tokens.manage": f"POST {T}/access-tokens",
    "exec.diagnostic": (f"POST {T}/exec", {"command": "python3 --version"}),
    "audit.read": f"GET {T}/audit",
    "alerts.manage": ("POST /alerts/rules", {**BODIES["POST /alerts/rules"], "tenant": "{tenant_id}"}),
    "tenant.resize": f"POST {T}/resize",
    "tenant.delete": f"DELETE {T}",
    "tenant.undelete": f"POST {T}/undelete",
    "tenant.transfer": f"POST {T}/transfer",
    "secrets.rotate": f"POST {T}/rotate-secrets",
    "egress.update": (f"PATCH {T}/config", {"egress": "allowlist"}),
    "exec.any": f"POST {T}/exec",
    "tenant.suspend": f"POST {T}/suspend",
    "tenant.reactivate": f"POST {T}/reactivate",
}


def test_the_table_is_of_all_of_them():
    assert ASKED.keys() == ABILITIES.keys()


def caller_without(tenant, ability):
    rest = sorted(set(ABILITIES) - SUPER_ADMIN_ONLY - {ability})
    role = Role.objects.create(name="all-but-one", label="All but one", abilities=rest)
    forget_custom_roles()
    return as_user(MemberFactory(tenant=tenant, role=role.name).user)


@pytest.mark.parametrize("ability", ASKED)
def test_who_has_every_other_one_is_refused_by_its_name(acme, ids, ability):
    asked = ASKED[ability]
    route, body = asked if isinstance(asked, tuple) else (asked, BODIES.get(asked, {}))
    method, path = route.split()
    with Undone():
        api = caller_without(acme, ability)
        body = {name: filled(value, ids) if isinstance(value, str) else value for name, value in body.items()}
        answer = api(method, filled(path, ids), None if method in ("GET", "DELETE") else body)
        assert (answer.status_code, answer.json()["error"]["details"].get("ability")) == (403, ability), answer.content
    forget_custom_roles()


def asked_in_code():
    """The texts that stand as an argument of a call, or as a constant of a module, anywhere but in the matrix."""
    found = set()
    for path in architecture.product_files():
        if path.name == "permissions.py" or "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            values = node.args if isinstance(node, ast.Call) else [node.value] if isinstance(node, ast.Assign) else []
            found |= {value.value for value in values if isinstance(value, ast.Constant)}
    return found


def test_what_is_done_beyond_tenants_is_asked_for_too():
    assert set(BEYOND_TENANTS) - asked_in_code() == set()
    assert "chat.use" not in asked_in_code()


def test_a_custom_role_loses_what_nothing_asks_for_and_can_be_changed(db):
    role = Role.objects.create(name="support", label="Support", abilities=["chat.use", "logs.read"])
    import_module("accounts.migrations.0007_abilities_nobody_asks_for").take_out(apps, None)
    role.refresh_from_db()
    assert role.abilities == ["logs.read"]
