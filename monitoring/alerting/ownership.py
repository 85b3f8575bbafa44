"""Whose a rule, notifier, silence or alert is, and who may set it up: the tenant's managers, or super-admins where it
is the platform's."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from accounts.access import require_super_admin
from accounts.permissions import role_can
from audit.services import Target, record
from tenants import access
from tenants.events import emit
from tenants.models import Member, Tenant
from zcplatform.lib.actors import Actor

ABILITY = "alerts.manage"


def require(actor: Actor, tenant: Tenant | None) -> None:
    """NotFound or Forbidden, audited, unless the actor may set up the alerts of ``tenant``, or of the platform where
    there is none. Call it before the transaction of the act."""
    if tenant is None:
        require_super_admin(actor)
    else:
        access.require(actor, ABILITY, tenant)


def managed_by(actor: Actor) -> QuerySet[Tenant]:
    """The tenants whose alerts the actor may set up."""
    tenants: QuerySet[Tenant] = Tenant.objects.alive()
    if not actor.reaches(ABILITY):
        return tenants.none()
    if actor.unrestricted:
        return tenants
    rows = Member.objects.filter(user_id=actor.user_id or 0, user__is_active=True)
    mine = [tenant for tenant, role in rows.values_list("tenant_id", "role") if role_can(role, ABILITY)]
    return tenants.filter(pk__in=mine)


def theirs(actor: Actor) -> Q:
    """Rows with a column ``tenant`` that the actor may see and change."""
    if actor.unrestricted and actor.reaches(ABILITY):
        return Q()
    return Q(tenant__in=managed_by(actor).values("pk"))


def written(
    action: str, actor: Actor, tenant: Tenant | None, target: Target, *, outcome: str = "ok", **detail: Any
) -> None:
    """The event and the audit row of a change; last in its transaction."""
    if tenant is not None:
        emit(tenant, action, {"id": target.id, "name": target.name})
    public_id = str(tenant.public_id) if tenant else ""
    record(action, actor=actor, target=target, tenant=public_id, detail=detail, outcome=outcome)
