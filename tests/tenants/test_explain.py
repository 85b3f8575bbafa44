"""Why somebody may, or may not: the same answer as access itself, with its reasons."""

from __future__ import annotations

import pytest

from accounts.models import Role
from accounts.permissions import ABILITIES, BEYOND_TENANTS, ROLES
from tenants.access import can
from tenants.explain import explain
from tests.commands import manage
from tests.factories import MemberFactory, UserFactory
from zcplatform.lib.errors import InvalidField


@pytest.mark.parametrize("role", [*ROLES, "custom", "gone", None])
def test_the_answer_is_that_of_access(tenant, role):
    Role.objects.create(name="custom", label="Custom", abilities=["logs.read", "tenant.suspend"])
    user = MemberFactory(tenant=tenant, role=role).user if role else UserFactory()
    for ability in ABILITIES:
        found = explain(user=user, ability=ability, tenant=tenant)
        assert found.allowed == can(user.as_actor(), ability, tenant), ability
        assert found.role == role and found.reasons


def test_the_reasons_lead_to_the_answer(tenant, super_admin, stranger, owner):
    inactive = MemberFactory(tenant=tenant, role="owner", user=UserFactory(is_active=False)).user
    viewer = MemberFactory(tenant=tenant, role="viewer").user
    expected = {
        super_admin: "super-admin",
        stranger: "not a member",
        inactive: "not active",
        viewer: "of the built-in roles manager, owner have it",
        owner: "role has the ability",
    }
    for user, words in expected.items():
        assert words in explain(user=user, ability="tenant.deploy", tenant=tenant).reasons[-1]
    assert "Only super-admins" in explain(user=owner, ability="tenant.suspend", tenant=tenant).reasons[-1]


def test_beyond_tenants(db, super_admin, settings):
    user = UserFactory()
    for ability in BEYOND_TENANTS:
        assert explain(user=super_admin, ability=ability, tenant=None).allowed
    answers = {ability: explain(user=user, ability=ability, tenant=None).allowed for ability in BEYOND_TENANTS}
    assert {name for name, allowed in answers.items() if allowed} == {"account.view", "account.manage"}
    settings.SELF_SERVICE_SIGNUP = True
    assert explain(user=user, ability="tenant.create", tenant=None).allowed


def test_an_unknown_ability_and_one_without_its_tenant_are_refused(db):
    for ability, type in (("tenant.fly", "unknown_ability"), ("tenant.deploy", "invalid_field")):
        with pytest.raises(InvalidField) as error:
            explain(user=UserFactory(), ability=ability, tenant=None)
        assert error.value.type == type


def test_the_command_says_it_and_exits_accordingly(tenant):
    viewer = MemberFactory(tenant=tenant, role="viewer").user
    done = manage("explain", viewer.email, "tenant.view", tenant.slug)
    assert done.code == 0 and "yes, tenant.view" in done.out
    done = manage("explain", viewer.email.upper(), "tenant.deploy", str(tenant.public_id), "--json")
    assert (done.code, done.json["allowed"], done.json["role"]) == (1, False, "viewer")
    for argv in (["nobody@example.test", "tenant.view", tenant.slug], [viewer.email, "tenant.view", "nowhere"]):
        done = manage("explain", *argv)
        assert done.code == 1 and "There is no" in done.err
