"""Members: who grants what, how many fit, and that an owner stays, whoever acts at the same time."""

from __future__ import annotations

import json
import threading
from functools import partial

import pytest
from django.db import connection

from audit.models import AuditEntry
from tenants import access, invitations, membership, services
from tenants.models import Invitation, Member, Plan
from tests.factories import MemberFactory, PlanFactory, TenantFactory, UserFactory
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Forbidden, NotFound


def denied():
    rows = AuditEntry.objects.filter(action="access.denied", outcome="denied").order_by("id")
    return [json.loads(text)["ability"] for text in rows.values_list("detail_json", flat=True)]


def owners(tenant):
    return Member.objects.filter(tenant=tenant, role="owner").count()


def at_once(*acts):
    """Run each in a thread of its own, let loose together; what each raised."""
    barrier, raised = threading.Barrier(len(acts)), []

    def run(act):
        barrier.wait()
        try:
            act()
        except Exception as error:
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_b4_a_member_who_was_made_inactive_has_no_role(tenant, owner):
    actor = owner.as_actor()
    assert access.role_in(actor, tenant) == "owner"
    type(owner).objects.filter(pk=owner.pk).update(is_active=False)
    assert access.role_in(actor, tenant) is None
    with pytest.raises(NotFound):
        services.stop(actor=actor, tenant=tenant)


def test_c6_a_role_above_ones_own_is_refused_and_recorded(tenant, owner):
    manager = MemberFactory(tenant=tenant, role="manager").user
    top = Member.objects.get(user=owner)
    tries = [
        lambda: membership.set_role(actor=manager.as_actor(), tenant=tenant, user=manager, role="owner"),
        lambda: membership.set_role(actor=manager.as_actor(), tenant=tenant, user=UserFactory(), role="owner"),
        lambda: membership.set_role(actor=manager.as_actor(), tenant=tenant, user=owner, role="viewer"),
        lambda: membership.remove(actor=manager.as_actor(), member=top),
    ]
    for number, attempt in enumerate(tries, 1):
        with pytest.raises(Forbidden) as refused:
            attempt()
        assert refused.value.type == "role_too_high"
        assert denied() == ["members.update"] * number
    assert sorted(tenant.members.values_list("role", flat=True)) == ["manager", "owner"]


def test_a_plan_that_is_full_takes_no_member_more_and_still_changes_roles(db):
    tenant = TenantFactory(plan=PlanFactory(slug="two", max_members=2))
    MemberFactory(tenant=tenant, role="owner")
    second = MemberFactory(tenant=tenant)
    with pytest.raises(Forbidden) as refused:
        invitations.invite(actor=OPERATOR, tenant=tenant, email="a@example.com", role="viewer")
    assert (refused.value.type, refused.value.details["limit"]) == ("plan_limit", 2)
    assert tenant.members.count() == 2
    assert denied() == [], "a full plan is no attempt at what one may not do"
    membership.set_role(actor=OPERATOR, tenant=tenant, user=second.user, role="manager")
    membership.remove(actor=OPERATOR, member=second)
    invitations.invite(actor=OPERATOR, tenant=tenant, email="a@example.com", role="viewer")


def places(tenant):
    """Members, and those who could become one."""
    return tenant.members.count(), invitations.open_ones(tenant).count()


def test_an_open_invitation_takes_a_place_and_whoever_invites_is_told(db):
    tenant = TenantFactory(plan=PlanFactory(slug="three", name="Three", max_members=3))
    MemberFactory(tenant=tenant, role="owner")
    first, _ = (invite(tenant, name) for name in ("a", "b"))
    with pytest.raises(Forbidden) as refused:
        invite(tenant, "c")
    assert refused.value.type == "plan_limit"
    assert {"limit": 3, "members": 1, "invited": 2}.items() <= refused.value.details.items()
    assert "3 places; 1 member and 2 open invitations take them" in refused.value.message
    assert places(tenant) == (1, 2)
    invite(tenant, "a")  # the same address once more takes no further place
    assert places(tenant) == (1, 2)
    invitations.revoke(actor=OPERATOR, invitation=Invitation.objects.latest("pk"))
    invite(tenant, "c")
    Invitation.objects.filter(email="b@example.com").update(expires_at=clock.now())
    invite(tenant, "d")
    assert places(tenant) == (1, 2)
    assert first.email == "a@example.com"


def test_whoever_was_invited_finds_a_place(db):
    tenant = TenantFactory(plan=PlanFactory(slug="three", max_members=3))
    MemberFactory(tenant=tenant, role="owner")
    users = [UserFactory(email=f"{name}@example.com") for name in "ab"]
    for user in users:
        made = invite(tenant, user.email[0])
        invitations.accept(actor=user.as_actor(), user=user, token=str(made.public_id))
    assert places(tenant) == (3, 0)


def test_a_place_that_is_lost_after_all_is_told_to_the_owner(db):
    """An operator may lower a plan's limits under its tenants."""
    tenant = TenantFactory(plan=PlanFactory(slug="three", max_members=3))
    MemberFactory(tenant=tenant, role="owner")
    user, made = UserFactory(email="a@example.com"), invite(tenant, "a")
    Plan.objects.update(max_members=1)
    with pytest.raises(Forbidden) as refused:
        invitations.accept(actor=user.as_actor(), user=user, token=str(made.public_id))
    assert refused.value.type == "plan_limit"
    row = AuditEntry.objects.get(action="access.denied")
    assert (row.tenant_id, row.actor_email) == (str(tenant.public_id), user.email)


def test_a_smaller_plan_is_refused_while_invitations_are_open(db):
    tenant = TenantFactory(plan=PlanFactory(slug="three", max_members=3))
    MemberFactory(tenant=tenant, role="owner")
    made = invite(tenant, "a")
    PlanFactory(slug="one", name="One", max_members=1)
    with pytest.raises(Forbidden) as refused:
        services.resize(actor=OPERATOR, tenant=tenant, plan="one")
    assert (refused.value.type, refused.value.message) == (
        "plan_limit",
        "The tenant has 1 member and 1 open invitation; the plan One allows 1.",
    )
    invitations.revoke(actor=OPERATOR, invitation=made)
    services.resize(actor=OPERATOR, tenant=tenant, plan="one")


def test_two_who_invite_at_once_share_the_last_place(transactional_db):
    tenant = TenantFactory(plan=PlanFactory(slug="two", max_members=2))
    MemberFactory(tenant=tenant, role="owner")

    raised = at_once(*(partial(invite, tenant, name) for name in "abcd"))
    assert [error.type for error in raised] == ["plan_limit"] * 3
    assert places(tenant) == (1, 1)


def invite(tenant, name):
    return invitations.invite(actor=OPERATOR, tenant=tenant, email=f"{name}@example.com", role="viewer")


def test_nobody_is_made_a_member_unasked(tenant):
    for role in ("viewer", "owner"):
        with pytest.raises(NotFound):
            membership.set_role(actor=OPERATOR, tenant=tenant, user=UserFactory(), role=role)
    assert tenant.members.count() == 0


def test_c6_removal_judges_the_role_that_the_member_has_now(tenant):
    stale = MemberFactory(tenant=tenant, role="viewer")
    Member.objects.filter(pk=stale.pk).update(role="owner")
    with pytest.raises(Conflict) as refused:
        membership.remove(actor=OPERATOR, member=stale)
    assert refused.value.type == "last_owner"
    manager = MemberFactory(tenant=tenant, role="manager").user
    MemberFactory(tenant=tenant, role="owner")
    with pytest.raises(Forbidden) as too_high:
        membership.remove(actor=manager.as_actor(), member=stale)
    assert too_high.value.type == "role_too_high"
    assert owners(tenant) == 2


def test_a_member_who_is_gone_already_is_not_found(tenant, owner):
    member = MemberFactory(tenant=tenant)
    same = Member.objects.get(pk=member.pk)
    membership.remove(actor=OPERATOR, member=member)
    with pytest.raises(NotFound):
        membership.remove(actor=OPERATOR, member=same)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["remove", "demote", "both"])
def test_c6_two_owners_who_go_at_once_leave_one(way):
    for _ in range(5):
        tenant = TenantFactory()
        two = [MemberFactory(tenant=tenant, role="owner") for _ in range(2)]

        def remove(member):
            membership.remove(actor=OPERATOR, member=member)

        def demote(member, tenant=tenant):
            membership.set_role(actor=OPERATOR, tenant=tenant, user=member.user, role="viewer")

        acts = {"remove": (remove, remove), "demote": (demote, demote), "both": (remove, demote)}[way]
        raised = at_once(*[lambda a=a, m=m: a(m) for a, m in zip(acts, two, strict=True)])
        assert [getattr(error, "type", error) for error in raised] == ["last_owner"]
        assert owners(tenant) == 1


@pytest.mark.django_db(transaction=True)
def test_c6_one_member_removed_by_two_at_once_is_removed_once():
    member = MemberFactory()
    copies = [Member.objects.get(pk=member.pk) for _ in range(2)]
    raised = at_once(*[lambda c=c: membership.remove(actor=OPERATOR, member=c) for c in copies])
    assert [type(error) for error in raised] == [NotFound]
    assert AuditEntry.objects.filter(action="member.remove").count() == 1
