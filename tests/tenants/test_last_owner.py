"""C6: a tenant keeps an active owner, on every way on which it could lose the last, whoever acts at once."""

from __future__ import annotations

import pytest

from accounts import services as accounts
from tenants import membership
from tenants.models import Member, Tenant
from tenants.states import Desired, Status
from tests.factories import MemberFactory
from tests.tenants.test_membership import at_once
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict


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
    "made inactive": lambda tenant, user: accounts.update_user(user, actor=OPERATOR, is_active=False),
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


def test_a_deleted_tenant_needs_no_owner(tenant, owner, super_admin):
    Tenant.objects.filter(pk=tenant.pk).update(status=Status.DELETED, desired=Desired.DELETED)
    accounts.update_user(owner, actor=OPERATOR, is_active=False)
    assert active_owners(tenant) == 0
