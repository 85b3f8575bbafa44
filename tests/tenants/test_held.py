"""Under a hold: what an owner may still do, and what waits for the operator."""

from __future__ import annotations

import pytest

from tenants import access_tokens, services, tokens
from tenants.states import HoldKind
from tests.commands import manage
from tests.factories import MemberFactory, PlanFactory
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict


@pytest.fixture
def mine(world):
    """A running tenant and its owner."""
    tenant = world.tenant(deploy=True)
    PlanFactory(slug="big", memory_limit_mb=4_096)
    return tenant, MemberFactory(tenant=tenant, role="owner").user.as_actor()


ACTS = {
    "delete": lambda actor, tenant: services.delete(actor=actor, tenant=tenant),
    "purge": lambda actor, tenant: services.delete(actor=actor, tenant=tenant, purge=True),
    "resize": lambda actor, tenant: services.resize(actor=actor, tenant=tenant, plan="big"),
}
REFUSED = [
    *[([HoldKind.OPERATOR], act) for act in ACTS],
    *[([HoldKind.OPERATOR, HoldKind.BILLING], act) for act in ACTS],
    *[([HoldKind.BILLING], act) for act in ("resize",)],
]


def held(world, tenant, kinds):
    for kind in kinds:
        world.drive(services.suspend(actor=OPERATOR, tenant=tenant, hold=kind))
    tenant.refresh_from_db()


@pytest.mark.parametrize(("kinds", "act"), REFUSED)
def test_an_owner_removes_no_evidence_and_takes_no_other_plan(world, mine, kinds, act):
    tenant, owner = mine
    held(world, tenant, kinds)
    runs = tenant.runs.count()
    with pytest.raises(Conflict) as refused:
        ACTS[act](owner, tenant)
    assert refused.value.type == "held"
    tenant.refresh_from_db()
    assert (tenant.desired, tenant.plan.slug, tenant.runs.count()) == ("suspended", "pro", runs)


@pytest.mark.parametrize("kind", [HoldKind.BILLING, HoldKind.QUOTA])
@pytest.mark.parametrize("purge", [False, True])
def test_under_another_hold_the_owner_may_end_it(world, mine, kind, purge):
    tenant, owner = mine
    held(world, tenant, [kind])
    world.drive(services.delete(actor=owner, tenant=tenant, purge=purge))
    tenant.refresh_from_db()
    assert tenant.status == "deleted"


def test_who_used_up_a_quota_may_take_a_bigger_plan(world, mine):
    tenant, owner = mine
    held(world, tenant, [HoldKind.QUOTA])
    services.resize(actor=owner, tenant=tenant, plan="big")
    tenant.refresh_from_db()
    assert tenant.plan.slug == "big"


def test_revoking_and_rotating_stay_possible(world, mine):
    tenant, owner = mine
    token, _value = access_tokens.issue(actor=OPERATOR, tenant=tenant, name="x")
    held(world, tenant, [HoldKind.OPERATOR])
    access_tokens.revoke(actor=owner, token=token)
    assert services.rotate_secrets(actor=owner, tenant=tenant).access_token.reveal()
    assert tokens.live().filter(tenant=tenant).count() == 1


def test_a_lifted_hold_holds_nothing(world, mine):
    tenant, owner = mine
    held(world, tenant, [HoldKind.OPERATOR])
    world.drive(services.reactivate(actor=OPERATOR, tenant=tenant))
    services.delete(actor=owner, tenant=tenant)


def test_super_admins_and_the_shell_are_not_bound(world, mine, super_admin):
    tenant, _owner = mine
    held(world, tenant, [HoldKind.OPERATOR])
    services.resize(actor=super_admin.as_actor(), tenant=tenant, plan="big")
    assert manage("deprovision", tenant.slug, "--yes").code == 0


def test_a_deletion_that_is_under_way_is_purged_no_further_by_the_owner(world, mine):
    """Asked for by an operator who keeps the folder."""
    tenant, owner = mine
    held(world, tenant, [HoldKind.OPERATOR])
    run = services.delete(actor=OPERATOR, tenant=tenant)
    assert services.delete(actor=owner, tenant=tenant) == run
    with pytest.raises(Conflict) as refused:
        services.delete(actor=owner, tenant=tenant, purge=True)
    assert refused.value.type == "held"
