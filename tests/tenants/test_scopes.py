"""How far an API key reaches in a tenant: never further than its scopes, whoever its user is."""

from dataclasses import replace

import pytest

from accounts.permissions import ABILITIES, SCOPES, abilities_in, may_grant
from audit.models import AuditEntry
from tenants import access, capacity, membership, services
from tenants.models import Member, Tenant
from tests.factories import MemberFactory, UserFactory
from zcplatform.lib.errors import Forbidden, NotFound


def by_key(user, *scopes):
    """The user as they are known when an API key with these scopes is in use."""
    return replace(user.as_actor(), limit=abilities_in(scopes))


@pytest.mark.parametrize("ability", ABILITIES)
def test_a_key_reaches_what_user_and_scope_both_allow(tenant, owner, super_admin, stranger, ability):
    for scope, reached in SCOPES.items():
        for user in (owner, super_admin, stranger):
            allowed = access.can(user.as_actor(), ability, tenant) and ability in reached
            assert access.can(by_key(user, scope), ability, tenant) is allowed


def test_c9_a_key_that_only_reads_tests_and_changes_nothing(tenant, owner):
    for ability in ("provider.test", "config.update", "channels.update", "tenant.stop"):
        with pytest.raises(Forbidden) as refused:
            access.require(by_key(owner, "read"), ability, tenant)
        assert refused.value.type == "scope_too_narrow"
    assert AuditEntry.objects.filter(action="access.denied").count() == 4


def test_a_super_admins_key_is_no_master_key(tenant, super_admin):
    reader = by_key(super_admin, "read")
    with pytest.raises(Forbidden):
        services.delete(actor=reader, tenant=tenant)
    with pytest.raises(Forbidden):
        services.suspend(actor=by_key(super_admin, "write"), tenant=tenant)
    with pytest.raises(Forbidden):
        capacity.set_node_state(actor=by_key(super_admin, "write"), node=tenant.node, state="draining")
    with pytest.raises(Forbidden) as refused:
        services.create_tenant(actor=reader, name="New", plan=tenant.plan.slug)
    assert refused.value.type == "scope_too_narrow"
    assert Tenant.objects.count() == 1


def test_c2_a_narrow_key_does_not_tell_a_stranger_that_a_tenant_exists(tenant, stranger):
    with pytest.raises(NotFound):
        access.require(by_key(stranger, "read"), "tenant.delete", tenant)


def test_c6_nobody_grants_by_a_key_what_the_key_does_not_reach(tenant, owner, super_admin):
    friend = UserFactory()
    for user in (owner, super_admin):
        with pytest.raises(Forbidden) as refused:
            membership.set_role(actor=by_key(user, "write"), tenant=tenant, user=friend, role="owner")
        assert refused.value.type == "role_too_high"
    top = MemberFactory(tenant=tenant, role="owner")
    with pytest.raises(Forbidden):
        membership.remove(actor=by_key(owner, "write"), member=top)
    MemberFactory(tenant=tenant, user=friend)
    membership.set_role(actor=by_key(owner, "write"), tenant=tenant, user=friend, role="manager")
    assert Member.objects.get(user=friend).role == "manager"
    assert not may_grant("owner", "viewer", limit=SCOPES["read"])


def test_scopes_that_do_not_exist_reach_nothing():
    assert abilities_in(["everything"]) == abilities_in([]) == frozenset()
