"""C6: a tenant keeps an active owner on every way on which it could lose the last, whoever acts at once, but for one:
an account that has to be made inactive is."""

from __future__ import annotations

import pytest

from accounts import services as accounts
from audit.models import AuditEntry
from tenants import invitations, membership
from tenants.models import Member, Tenant
from tenants.states import Desired, Status
from tests.factories import MemberFactory
from tests.pages.conftest import browser
from tests.tenants.test_membership import at_once
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict
from zcplatform.pages import attention


def active_owners(tenant):
    return Member.objects.filter(tenant=tenant, role="owner", user__is_active=True).count()


def member(tenant, user):
    return Member.objects.get(tenant=tenant, user=user)


WAYS = {
    "removed": lambda tenant, user: membership.remove(actor=OPERATOR, member=member(tenant, user)),
    "leaves": lambda tenant, user: membership.remove(actor=user.as_actor(), member=member(tenant, user)),
    "demoted": lambda tenant, user: membership.set_role(actor=OPERATOR, tenant=tenant, user=user, role="viewer"),
    "demotes itself": lambda tenant, user: membership.set_role(
        actor=user.as_actor(), tenant=tenant, user=user, role="manager"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_last_owner_stays(tenant, owner, super_admin, way):
    MemberFactory(tenant=tenant, role="owner", user__is_active=False)
    with pytest.raises(Conflict) as error:
        WAYS[way](tenant, owner)
    assert error.value.type == "last_owner"
    assert active_owners(tenant) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("second_way", WAYS)
@pytest.mark.parametrize("first_way", WAYS)
def test_of_two_owners_who_go_at_once_one_stays(tenant, owner, super_admin, first_way, second_way):
    second = MemberFactory(tenant=tenant, role="owner").user
    raised = at_once(lambda: WAYS[first_way](tenant, owner), lambda: WAYS[second_way](tenant, second))
    assert active_owners(tenant) == 1
    assert [error.type for error in raised] == ["last_owner"]


def attention_of():
    return [matter.name for matter in attention._ownerless()]


def test_making_somebody_inactive_always_wins_and_the_tenant_is_looked_after(tenant, owner, super_admin):
    accounts.update_user(owner, actor=OPERATOR, is_active=False)
    assert active_owners(tenant) == 0
    assert attention_of() == [tenant.slug]
    assert tenant.events.filter(type="tenant.ownerless").count() == 1
    assert AuditEntry.objects.filter(action="tenant.ownerless", tenant_id=str(tenant.public_id)).count() == 1
    assert f"/tenants/{tenant.slug}/members" in browser(super_admin).get("/").content.decode()
    made = invitations.invite(actor=OPERATOR, tenant=tenant, email="new@example.com", role="owner")
    assert attention_of() == [], "somebody is asked"
    invitations.revoke(actor=OPERATOR, invitation=made)
    assert attention_of() == [tenant.slug]
    accounts.update_user(owner, actor=OPERATOR, is_active=True)
    assert attention_of() == []


def test_an_attacker_is_no_shield_against_being_made_inactive(owner, super_admin):
    """Whoever makes themselves, or is made, the only owner of many tenants goes all the same."""
    for _ in range(3):
        MemberFactory(user=owner, role="owner")
    accounts.update_user(owner, actor=OPERATOR, is_active=False)
    assert not type(owner).objects.get(pk=owner.pk).is_active
    assert len(attention_of()) == 4


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_one_may_go_while_the_other_is_made_inactive(tenant, owner, super_admin):
    second = MemberFactory(tenant=tenant, role="owner").user
    raised = at_once(
        lambda: accounts.update_user(owner, actor=OPERATOR, is_active=False),
        lambda: membership.remove(actor=second.as_actor(), member=member(tenant, second)),
    )
    assert {error.type for error in raised} <= {"last_owner"}
    assert not type(owner).objects.get(pk=owner.pk).is_active
    assert (active_owners(tenant), attention_of()) in [(1, []), (0, [tenant.slug])]


def test_a_deleted_tenant_needs_no_owner(tenant, owner, super_admin):
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.DELETED, desired=Desired.DELETED)
    accounts.update_user(owner, actor=OPERATOR, is_active=False)
    assert (active_owners(tenant), attention_of()) == (0, [])
