"""What users who sign up may have, on every way to it."""

from __future__ import annotations

import pytest

from accounts.rates import limiter
from audit.models import AuditEntry
from tenants import invitations, membership, offer, services
from tenants.models import Member, Tenant
from tests.factories import MemberFactory, PlanFactory, TenantFactory, UserFactory
from tests.tenants.test_membership import at_once
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Forbidden, RateLimited


@pytest.fixture
def open_to_all(settings):
    settings.SELF_SERVICE_SIGNUP, settings.SIGNUP_PLANS = True, ["free"]
    settings.SIGNUP_RUNTIMES, settings.SIGNUP_AGENTS = ["fake"], ["demo"]
    settings.SIGNUP_MAX_TENANTS, settings.SIGNUP_MAX_MEMORY_MB, settings.SIGNUP_MAX_DISK_MB = 2, 10_000, 100_000
    return settings


@pytest.fixture
def plans(db):
    def make(slug, **more):
        return PlanFactory(slug=slug, name=slug, **{"memory_limit_mb": 256, "disk_limit_mb": 100, **more})

    return {"free": make("free"), "big": make("big", memory_limit_mb=9_000)}


@pytest.fixture
def user(world, open_to_all, plans):
    world.node()
    return UserFactory()


def create(user, **more):
    given = {"name": "Mine", "plan": "free", "runtime": "fake", **more}
    return services.create_tenant(actor=user.as_actor(), **given).tenant


def refused(act, type_):
    before = AuditEntry.objects.filter(outcome="denied").count()
    with pytest.raises(Forbidden) as error:
        act()
    assert error.value.type == type_
    assert AuditEntry.objects.filter(outcome="denied").count() == before + 1, "the refusal is in the audit"


def given(user, **more):
    """A tenant that an operator made for this user."""
    from tenants.models import Node

    tenant = TenantFactory(**{"node": Node.objects.get(), **more})
    MemberFactory(tenant=tenant, user=user, role="owner")
    return tenant


@pytest.mark.parametrize(
    ("more", "type_"),
    [
        ({"plan": "big"}, "plan_not_offered"),
        ({"runtime": "docker"}, "runtime_not_offered"),
        ({"agent": "openclaw", "plan": "free"}, "agent_not_offered"),
    ],
)
def test_a_new_tenant_is_one_of_what_is_offered(user, more, type_):
    refused(lambda: create(user, **more), type_)
    assert not Tenant.objects.exists()


def test_one_user_owns_so_many_and_a_deleted_one_makes_room(user):
    first, second = create(user), create(user)
    refused(lambda: create(user), "signup_limit")
    Tenant.objects.filter(pk=first.pk).update(status="deleted", desired="deleted")
    create(user)
    assert second.members.get().user == user


@pytest.mark.django_db(transaction=True)
def test_of_two_made_at_once_the_last_place_takes_one(user, open_to_all):
    open_to_all.SIGNUP_MAX_TENANTS = 1
    raised = at_once(lambda: create(user), lambda: create(user))
    assert [error.type for error in raised] == ["signup_limit"]
    assert Tenant.objects.count() == 1


def test_no_other_plan_by_resize_and_no_more_than_fits(user, open_to_all, plans):
    tenant = create(user)
    refused(lambda: services.resize(actor=user.as_actor(), tenant=tenant, plan="big"), "plan_not_offered")
    open_to_all.SIGNUP_PLANS = ["free", "big"]
    open_to_all.SIGNUP_MAX_MEMORY_MB = 9_000
    services.resize(actor=user.as_actor(), tenant=tenant, plan="big")
    other = UserFactory()
    create(other)
    mine = create(other)
    refused(lambda: services.resize(actor=other.as_actor(), tenant=mine, plan="big"), "signup_limit")
    tenant.refresh_from_db()
    assert tenant.plan.slug == "big"


def test_memory_and_disk_are_added_up(user, open_to_all, plans):
    open_to_all.SIGNUP_MAX_DISK_MB = 150
    create(user)
    refused(lambda: create(user), "signup_limit")


def test_a_tenant_is_handed_only_to_whom_it_fits(user):
    mine, heir = create(user), UserFactory()
    to = MemberFactory(tenant=mine, user=heir, role="manager")
    create(heir), create(heir)
    act = user.as_actor()
    refused(lambda: membership.transfer(actor=act, tenant=mine, to=to), "signup_limit")
    refused(lambda: membership.set_role(actor=act, tenant=mine, user=heir, role="owner"), "signup_limit")
    membership.transfer(actor=OPERATOR, tenant=mine, to=to)
    assert Member.objects.get(pk=to.pk).role == "owner", "what an operator gives, anybody may have"


def test_an_operators_present_is_not_passed_on_to_whom_it_is_not_offered(user, plans):
    present = given(user, plan=plans["big"])
    heir = MemberFactory(tenant=present, role="manager")
    refused(lambda: membership.transfer(actor=user.as_actor(), tenant=present, to=heir), "plan_not_offered")
    services.rename(actor=user.as_actor(), tenant=present, name="Still mine")


def invited(actor, tenant, email, monkeypatch):
    told = []
    monkeypatch.setattr(invitations, "link", lambda token: told.append(token) or "link")
    invitations.invite(actor=actor, tenant=tenant, email=email, role="owner")
    return told[0]


def test_an_invited_owner_is_looked_at_when_accepting(user, monkeypatch):
    mine, heir = create(user), UserFactory()
    create(heir), create(heir)
    token = invited(user.as_actor(), mine, heir.email, monkeypatch)
    refused(lambda: invitations.accept(actor=heir.as_actor(), user=heir, token=token), "signup_limit")
    assert not mine.members.filter(user=heir).exists()
    token = invited(OPERATOR, mine, heir.email, monkeypatch)
    assert invitations.accept(actor=heir.as_actor(), user=heir, token=token).role == "owner"


def test_making_and_deleting_has_an_end(user, monkeypatch):
    monkeypatch.setattr(offer, "PER_DAY", "1/day")
    limiter.storage.reset()
    create(user)
    with pytest.raises(RateLimited):
        create(user)


def test_super_admins_and_a_closed_sign_up_are_not_bound(user, open_to_all):
    root = UserFactory(is_superuser=True)
    for _ in range(3):
        create(root, plan="big")
    open_to_all.SELF_SERVICE_SIGNUP = False
    owned = given(user)
    services.resize(actor=user.as_actor(), tenant=owned, plan="big")
