"""Who may do what to which tenant: the role from the membership, the answer from accounts' matrix."""

from __future__ import annotations

from typing import NoReturn

from django.db import transaction

from accounts.grants import CHECKS, note
from accounts.permissions import role_can
from audit.services import Target, record
from tenants.models import Member, Tenant
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden, NotFound, RequestError


def role_in(actor: Actor, tenant: Tenant) -> str | None:
    """The actor's role in the tenant, read from the database each time; None for a stranger."""
    if actor.user_id is None:
        return None
    row = Member.objects.filter(tenant=tenant, user_id=actor.user_id, user__is_active=True)
    return row.values_list("role", flat=True).first()


def can(actor: Actor, ability: str, tenant: Tenant) -> bool:
    """Whether the actor has the ability in this tenant, with the credential in use."""
    if not actor.reaches(ability):
        return False
    if actor.unrestricted:
        return True
    role = role_in(actor, tenant)
    return role is not None and role_can(role, ability)


def require(actor: Actor, ability: str, tenant: Tenant) -> None:
    """NotFound for a stranger, Forbidden for a member whose role does not allow it; both are audited.

    Must be called before the transaction of the act, or the row about the refusal would go with it.
    """
    if can(actor, ability, tenant):
        note("ability", ability, str(tenant.public_id))
        return
    deny(_refusal(actor, ability, tenant), actor=actor, ability=ability, tenant=tenant)


def _refusal(actor: Actor, ability: str, tenant: Tenant) -> RequestError:
    if not actor.unrestricted and role_in(actor, tenant) is None:
        return NotFound()
    if not actor.reaches(ability):
        return Forbidden("The scopes of this API key do not allow this.", type="scope_too_narrow", ability=ability)
    return Forbidden("Your role in this tenant does not allow this.", ability=ability)


def deny(error: RequestError, *, actor: Actor, ability: str, tenant: Tenant | None = None) -> NoReturn:
    """Record the refused attempt and raise ``error``; ``tenant`` where the attempt was about one.

    Must be called outside the transaction of the act, or the row about the refusal would go with it.
    """
    public_id = str(tenant.public_id) if tenant else ""
    with transaction.atomic():
        record(
            "access.denied",
            actor=actor,
            target=Target("tenant", public_id, tenant.slug) if tenant else None,
            tenant=public_id,
            detail={"ability": ability},
            outcome="denied",
        )
    raise error


def _still(actor: Actor, ability: str, public_id: str) -> None:
    """``require`` once more, for an answer that is told again; NotFound for a tenant that is gone."""
    tenant = Tenant.objects.filter(public_id=public_id).first()
    if tenant is None:
        raise NotFound()
    require(actor, ability, tenant)


CHECKS["ability"] = _still
