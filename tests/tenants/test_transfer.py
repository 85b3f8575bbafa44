"""Handing a tenant over, and giving it another name."""

from __future__ import annotations

import pytest

from tenants import membership, services
from tenants.models import Member
from tests.factories import MemberFactory, TenantFactory, UserFactory
from tests.tenants.test_membership import at_once, owners
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound, ZCError


def roles(tenant):
    return dict(Member.objects.filter(tenant=tenant).values_list("user__email", "role"))


def test_the_heir_becomes_owner_and_the_owner_manager(tenant, owner):
    heir = MemberFactory(tenant=tenant, role="viewer")
    other = MemberFactory(tenant=tenant, role="owner")
    membership.transfer(actor=owner.as_actor(), tenant=tenant, to=heir)
    assert roles(tenant) == {owner.email: "manager", heir.user.email: "owner", other.user.email: "owner"}


def test_a_super_admin_replaces_every_owner(tenant, owner, super_admin):
    heir = MemberFactory(tenant=tenant, role="viewer")
    membership.transfer(actor=super_admin.as_actor(), tenant=tenant, to=heir)
    assert roles(tenant) == {owner.email: "manager", heir.user.email: "owner"}


def test_only_an_owner_may_and_only_to_an_active_member(tenant, owner, stranger):
    heir = MemberFactory(tenant=tenant, role="viewer")
    manager = MemberFactory(tenant=tenant, role="manager").user
    for user, error in ((manager, Forbidden), (stranger, NotFound)):
        with pytest.raises(error):
            membership.transfer(actor=user.as_actor(), tenant=tenant, to=heir)
    inactive = MemberFactory(tenant=tenant, user=UserFactory(is_active=False))
    elsewhere = MemberFactory(tenant=TenantFactory(), user=stranger)
    top = Member.objects.get(user=owner)
    for member, type in ((inactive, "user_inactive"), (top, "already_owner"), (elsewhere, "not_found")):
        with pytest.raises(ZCError) as raised:
            membership.transfer(actor=owner.as_actor(), tenant=tenant, to=member)
        assert raised.value.type == type
    assert owners(tenant) == 1


@pytest.mark.django_db(transaction=True)
def test_c6_two_owners_who_hand_over_and_leave_at_once_leave_an_owner(tenant, owner):
    second = MemberFactory(tenant=tenant, role="owner").user
    heir = MemberFactory(tenant=tenant, role="viewer")
    mine, theirs = (Member.objects.get(tenant=tenant, user=user) for user in (owner, second))
    at_once(
        lambda: membership.transfer(actor=owner.as_actor(), tenant=tenant, to=heir),
        lambda: membership.remove(actor=second.as_actor(), member=theirs),
        lambda: membership.remove(actor=owner.as_actor(), member=mine),
        lambda: membership.set_role(actor=second.as_actor(), tenant=tenant, user=owner, role="viewer"),
    )
    assert owners(tenant) >= 1


def test_a_new_name_reaches_the_agent_and_the_slug_stays(world):
    tenant = world.tenant(deploy=True)
    run = services.rename(actor=OPERATOR, tenant=tenant, name="  Other Name ")
    assert run.kind == "reconfigure"
    world.drive(run)
    fresh = world.fresh(tenant)
    assert (fresh.name, fresh.slug, fresh.status) == ("Other Name", "acme", "running")
    assert services.rename(actor=OPERATOR, tenant=fresh, name="Other Name") is None


def test_a_bad_name_or_a_low_role_changes_nothing(world):
    tenant = world.tenant()
    viewer = MemberFactory(tenant=tenant, role="viewer").user.as_actor()
    with pytest.raises(Forbidden):
        services.rename(actor=viewer, tenant=tenant, name="x")
    for name in ("", "a\nb", "x" * 101):
        with pytest.raises(InvalidField):
            services.rename(actor=OPERATOR, tenant=tenant, name=name)
    with pytest.raises(Conflict):
        services.delete(actor=OPERATOR, tenant=tenant)
        services.rename(actor=OPERATOR, tenant=tenant, name="y")
    assert world.fresh(tenant).name == "Acme"
