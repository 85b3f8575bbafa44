"""Finds what a caller of the API may see; for the rest: NotFound, as for what does not exist."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet

from monitoring.alerting.metrics import Scope, known
from monitoring.alerting.models import AlertRule, Audience
from monitoring.alerting.ownership import ABILITY, managed_by, require, theirs
from tenants.access import deny
from tenants.models import Tenant
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden, NotFound

M = TypeVar("M", bound=Model)


def tenant_of(actor: Actor, given: str | None) -> Tenant | None:
    """The tenant with that public id, which the actor can see; None for none."""
    if given is None:
        return None
    rows = Tenant.objects.alive().filter(public_id=_uuid(given))
    tenant = rows.filter(pk__in=Tenant.objects.visible_to(actor).values("pk")).first()
    if tenant is None:
        deny(NotFound(), actor=actor, ability=ABILITY, tenant=rows.first())
    return tenant


def rows_of(actor: Actor, rows: QuerySet[M], tenant: str | None) -> QuerySet[M]:
    """Those of ``rows`` that the actor looks after, of one tenant where one is given."""
    _check_reach(actor)
    found = tenant_of(actor, tenant)
    if found is None:
        return rows.filter(theirs(actor))
    require(actor, found)
    return rows.filter(tenant=found)


def rules_of(actor: Actor, tenant: str | None) -> QuerySet[AlertRule]:
    """The actor's own rules, and those of the platform that tell their tenants."""
    _check_reach(actor)
    rows = AlertRule.objects.select_related("tenant")
    found = tenant_of(actor, tenant)
    if found is not None:
        require(actor, found)
        return rows.filter(Q(tenant=found) | _telling_tenants())
    mine = theirs(actor)
    # Of a super-admin it says nothing, for everything is theirs; and “nothing or those” would be those alone.
    return rows.filter(mine | _telling_tenants()) if mine and managed_by(actor).exists() else rows.filter(mine)


def one(actor: Actor, rows: QuerySet[M], public_id: Any) -> M:
    """The row with that public id among those that the actor looks after."""
    _check_reach(actor)
    row = rows.filter(theirs(actor), public_id=public_id).first()
    if row is None:
        raise NotFound()
    return row


def rule(actor: Actor, public_id: UUID) -> AlertRule:
    """A rule that the actor sees, be it theirs or the platform's."""
    row = rules_of(actor, None).filter(public_id=public_id).first()
    if row is None:
        raise NotFound()
    return row


def rule_for(actor: Actor, given: str | None) -> AlertRule | None:
    """The rule that a silence names, if it names one."""
    return None if given is None else rule(actor, _uuid(given))


def _check_reach(actor: Actor) -> None:
    if not actor.reaches(ABILITY):
        error = Forbidden("The scopes of this API key do not allow this.", type="scope_too_narrow", ability=ABILITY)
        deny(error, actor=actor, ability=ABILITY)


def _telling_tenants() -> Q:
    metrics = [metric.name for metric in known() if metric.scope == Scope.TENANT]
    return Q(tenant=None, metric__in=metrics, audience__in=(Audience.TENANT, Audience.BOTH))


def _uuid(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise NotFound() from None
