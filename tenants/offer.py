"""What a user who may sign up may have: one answer for every way to it.

It is asked when a tenant is made, resized or handed over and when somebody becomes owner, of everybody but super-admins
and the platform itself, for as long as sign-up is open. What a super-admin gave stays: the present plan, runtime and
agent of a tenant are never asked again when nothing about them changes.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.db.models import QuerySet, Sum

from accounts.models import User
from accounts.rates import spend
from tenants.access import deny
from tenants.models import Plan, Tenant
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden

LIMIT, PLAN, RUNTIME, AGENT = "signup_limit", "plan_not_offered", "runtime_not_offered", "agent_not_offered"
REFUSALS = frozenset({LIMIT, PLAN, RUNTIME, AGENT})
PER_DAY = "20/day"
"""Tenants that one user makes: deleted ones keep their folder for days."""


def is_open_to(actor: Actor) -> bool:
    """Whether the actor may make tenants at all."""
    return actor.unrestricted or bool(settings.SELF_SERVICE_SIGNUP and actor.user_id)


def binds(actor: Actor) -> bool:
    """Whether this actor gets what is on offer and no more."""
    return not actor.unrestricted and settings.SELF_SERVICE_SIGNUP


def require_create(actor: Actor, *, plan: str, agent: str, runtime: str) -> None:
    """Forbidden, audited, for whoever may not make such a tenant; RateLimited beyond 20 a day by one user. How many
    there may be is for ``check_room``, in the transaction."""
    if not actor.reaches("tenant.create"):
        refusal = Forbidden("The scopes of this API key do not allow this.", type="scope_too_narrow")
        deny(refusal, actor=actor, ability="tenant.create")
    if not is_open_to(actor):
        deny(Forbidden("Only a super-admin may create tenants here."), actor=actor, ability="tenant.create")
    if not binds(actor):
        return
    refused = _not_offered(plan, agent, runtime)
    if refused is not None:
        deny(refused, actor=actor, ability="tenant.create")
    spend(PER_DAY, "tenant-create", str(actor.user_id))


def check_resize(actor: Actor, tenant: Tenant, plan: Plan) -> None:
    """Forbidden ``plan_not_offered`` or ``signup_limit``; under the tenant's lock."""
    if not binds(actor) or plan.pk == tenant.plan_id:
        return
    if plan.slug not in settings.SIGNUP_PLANS:
        raise _refusal(PLAN, f"The plan “{plan.slug}” is not offered here.", "plan")
    for owner in User.objects.filter(memberships__tenant=tenant, memberships__role="owner", is_active=True):
        check_room(actor, owner, plan, besides=tenant)


def check_owner(actor: Actor, tenant: Tenant, user: User) -> None:
    """Forbidden unless ``user`` may become an owner of ``tenant`` as it is; under the tenant's lock. ``actor`` is
    whoever gives it away."""
    if not binds(actor) or user.is_superuser:
        return
    refused = _not_offered(tenant.plan.slug, tenant.agent_kind, tenant.node.runtime)
    if refused is not None:
        raise refused
    check_room(actor, user, tenant.plan, besides=tenant)


def check_room(actor: Actor, user: User, plan: Plan, *, besides: Tenant | None = None) -> None:
    """Forbidden ``signup_limit`` when one more tenant of this plan is more than ``user`` may own; in the transaction
    that makes them its owner. Of two at once one waits."""
    if not binds(actor) or user.is_superuser:
        return
    User.objects.select_for_update().get(pk=user.pk)
    owned = _owned(user).exclude(pk=besides.pk) if besides else _owned(user)
    sums = owned.aggregate(memory=Sum("plan__memory_limit_mb"), disk=Sum("plan__disk_limit_mb"))
    for have, more, limit, what in (
        (owned.count(), 1, settings.SIGNUP_MAX_TENANTS, "tenants"),
        (sums["memory"] or 0, plan.memory_limit_mb, settings.SIGNUP_MAX_MEMORY_MB, "MB of memory"),
        (sums["disk"] or 0, plan.disk_limit_mb, settings.SIGNUP_MAX_DISK_MB, "MB of disk"),
    ):
        if have + more > limit:
            raise _refusal(LIMIT, f"One user may own {limit} {what} here.", limit=limit, have=have)


def choices(actor: Actor, names: Iterable[str], offered: Iterable[str]) -> list[str]:
    """Those of the names that the actor may choose; of an empty offer all."""
    allowed = set(offered)
    return [name for name in names if not binds(actor) or not allowed or name in allowed]


def runtimes() -> list[str]:
    """What is offered: the platform's own runtime, unless the settings say more."""
    return settings.SIGNUP_RUNTIMES or [settings.RUNTIME]


def _not_offered(plan: str, agent: str, runtime: str) -> Forbidden | None:
    if plan not in settings.SIGNUP_PLANS:
        return _refusal(PLAN, f"The plan “{plan}” is not offered here.", "plan")
    if settings.SIGNUP_AGENTS and agent not in settings.SIGNUP_AGENTS:
        return _refusal(AGENT, f"The agent “{agent}” is not offered here.", "agent")
    if runtime not in runtimes():
        return _refusal(RUNTIME, f"The runtime “{runtime}” is not offered here.", "runtime")
    return None


def _owned(user: User) -> QuerySet[Tenant]:
    alive: QuerySet[Tenant] = Tenant.objects.alive()
    return alive.filter(pk__in=user.memberships.filter(role="owner").values("tenant"))


def _refusal(type: str, text: str, field: str = "", **details: object) -> Forbidden:
    return Forbidden(text, type=type, **({"field": field} if field else {}), **details)
