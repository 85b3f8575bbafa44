"""Who belongs to a tenant. Nobody joins without saying yes (``tenants.invitations``), nobody grants more than they
have, and an owner who is the last one stays, unless their account is made inactive: that always wins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from accounts.access import require_reach
from accounts.grants import CHECKS, note
from accounts.models import User
from accounts.permissions import may_grant
from tenants import offer, tokens
from tenants.access import deny, require, role_in
from tenants.events import emit
from tenants.models import Member, Tenant
from tenants.runs import audit
from zcplatform.lib.actors import SYSTEM, Actor
from zcplatform.lib.errors import Conflict, Forbidden, NotFound


def set_role(*, actor: Actor, tenant: Tenant, user: User, role: str) -> Member:
    """Change a member's role. NotFound for whoever is no member, Forbidden ``role_too_high`` and as ``tenants.offer``
    says, Conflict ``last_owner``."""
    require(actor, "members.update", tenant)
    with refusals_recorded(actor, tenant), transaction.atomic():
        row = Tenant.objects.select_for_update(of=("self",)).select_related("plan", "node").get(pk=tenant.pk)
        member = Member.objects.filter(tenant=row, user=user).first()
        check_grant(actor, row, role, member.role if member else None)
        if role == "owner":
            offer.check_owner(actor, row, user)
        if member is None:
            raise NotFound("This user is no member; invite them.")
        _keep_an_owner(row, member, role)
        member.role = role
        member.save(update_fields=["role"])
        emit(row, "member.change", {"member": str(member.public_id), "role": role})
        audit(row, "member.change", actor, email=user.email, role=role)
    return member


def remove(*, actor: Actor, member: Member) -> None:
    """Remove a member; oneself always, others with the ability. Conflict ``last_owner``, NotFound when gone."""
    tenant = member.tenant
    if member.user_id == actor.user_id:
        require_reach(actor, "account.manage")
    else:
        require(actor, "members.update", tenant)
    with refusals_recorded(actor, tenant), transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=tenant.pk)
        # Read again under the lock: the role may have changed since the caller looked.
        fresh = Member.objects.select_related("user").filter(pk=member.pk, tenant=row).first()
        if fresh is None:
            raise NotFound("This member is gone already.")
        if fresh.user_id != actor.user_id:
            check_grant(actor, row, fresh.role)
        _keep_an_owner(row, fresh, None)
        fresh.delete()
        emit(row, "member.remove", {"email": fresh.user.email})
        audit(row, "member.remove", actor, email=fresh.user.email, role=fresh.role)


def transfer(*, actor: Actor, tenant: Tenant, to: Member, revoke_tokens: bool = False) -> None:
    """Hand the tenant over: ``to`` becomes owner, and the owner who does it manager. Where a super-admin who is no
    owner does it, every owner of before becomes manager. ``revoke_tokens`` ends every access token.

    NotFound for somebody who is no member (any more), Conflict ``already_owner`` or ``user_inactive``.
    """
    require(actor, "tenant.transfer", tenant)
    with refusals_recorded(actor, tenant), transaction.atomic():
        row = Tenant.objects.select_for_update(of=("self",)).select_related("plan", "node").get(pk=tenant.pk)
        heir = Member.objects.select_related("user").filter(pk=to.pk, tenant=row).first()
        if heir is None:
            raise NotFound("This member is gone already.")
        _check_heir(heir)
        check_grant(actor, row, "owner")
        offer.check_owner(actor, row, heir.user)
        owners = row.members.filter(role="owner")
        leaving = owners.filter(user_id=actor.user_id or 0)
        (leaving if leaving.exists() else owners).update(role="manager")
        heir.role = "owner"
        heir.save(update_fields=["role"])
        emit(row, "tenant.transfer", {"member": str(heir.public_id)})
        audit(row, "tenant.transfer", actor, email=heir.user.email)
        if revoke_tokens and (count := tokens.revoke_all(row)):
            emit(row, "token.revoke", {"count": count})
            audit(row, "token.revoke", actor, count=count)


def _check_heir(heir: Member) -> None:
    if heir.role == "owner":
        raise Conflict("This member is an owner already.", type="already_owner")
    if not heir.user.is_active:
        raise Conflict(f"{heir.user.email} is not active.", type="user_inactive")


def note_ownerless(user: User) -> None:
    """Say of which tenants nobody active is an owner without this user; inside the transaction that makes the user
    inactive. Nothing is refused: somebody who has to go goes, and a super-admin gives the tenant another owner."""
    owned = Member.objects.filter(user=user, role="owner").values("tenant")
    for tenant in Tenant.objects.alive().filter(pk__in=owned).order_by("pk"):
        if not tenant.members.filter(role="owner", user__is_active=True).exclude(user=user).exists():
            emit(tenant, "tenant.ownerless", {"email": user.email})
            audit(tenant, "tenant.ownerless", SYSTEM, email=user.email)


@contextmanager
def refusals_recorded(actor: Actor, tenant: Tenant | None, ability: str = "members.update") -> Iterator[None]:
    """Stands around the transaction: what is judged under the lock is recorded after the rollback. That no place is
    left is recorded where it meets somebody who can't help it, so that the owner sees it."""
    try:
        yield
    except Forbidden as error:
        told = {"role_too_high", *offer.REFUSALS, *({"plan_limit"} if ability == "invitation.accept" else ())}
        if error.type not in told:
            raise
        deny(error, actor=actor, ability=ability, tenant=tenant)


def check_grant(actor: Actor, tenant: Tenant, role: str, before: str | None = None) -> None:
    """Forbidden ``role_too_high`` unless the actor may give ``role`` and take ``before``; under the tenant's lock."""
    mine = "owner" if actor.unrestricted else role_in(actor, tenant)
    for wanted in filter(None, (role, before)):
        if mine is None or not may_grant(mine, wanted, limit=actor.limit):
            raise Forbidden("You can't grant or take a role above your own.", type="role_too_high", role=wanted)
        note("grant", wanted, str(tenant.public_id))


def check_room(tenant: Tenant) -> None:
    """Forbidden ``plan_limit`` when the plan allows no further member; under the tenant's lock."""
    limit = tenant.plan.max_members
    if tenant.members.count() >= limit:
        raise Forbidden(f"The plan {tenant.plan.name} allows {limit} members.", type="plan_limit", limit=limit)


def _keep_an_owner(tenant: Tenant, member: Member, role: str | None) -> None:
    if member.role == "owner" and role != "owner":
        others = tenant.members.filter(role="owner", user__is_active=True).exclude(pk=member.pk)
        if not others.exists():
            raise Conflict("The last owner can't leave; make somebody else owner first.", type="last_owner")


def _may_still_grant(actor: Actor, role: str, public_id: str) -> None:
    tenant = Tenant.objects.get(public_id=public_id)  # whose members are asked for before: it is there
    with refusals_recorded(actor, tenant):
        check_grant(actor, tenant, role)


CHECKS["grant"] = _may_still_grant
