"""Why somebody may do something, or may not: the questions of ``tenants.access`` one by one, with their answers."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from accounts.models import User
from accounts.permissions import ABILITIES, BEYOND_TENANTS, ROLES, SUPER_ADMIN_ONLY, abilities_of
from tenants.access import can
from tenants.models import Member, Tenant
from zcplatform.lib.errors import InvalidField

OWN = frozenset({"account.view", "account.manage"})


@dataclass(frozen=True)
class Explanation:
    """``reasons`` in the order in which they were looked at; the last one decides."""

    allowed: bool
    role: str | None
    reasons: tuple[str, ...]


def explain(*, user: User, ability: str, tenant: Tenant | None) -> Explanation:
    """Whether ``user`` has ``ability`` (in ``tenant``), and why. What a credential's scopes take away is not counted.

    InvalidField ``unknown_ability``, or when an ability that is had in a tenant is asked for without one.
    """
    if ability not in ABILITIES and ability not in BEYOND_TENANTS:
        text = f"There is no ability “{ability[:64]}”; roles lists them."
        raise InvalidField(text, type="unknown_ability", field="ability")
    if ability in ABILITIES and tenant is None:
        raise InvalidField("This ability is had in a tenant; name one.", field="tenant")
    if not user.is_active:
        return Explanation(False, None, ("The account is not active.",))
    if user.is_superuser:
        return Explanation(True, None, ("The account is active.", "It is a super-admin, who may do everything."))
    if tenant is None or ability in BEYOND_TENANTS:
        return _beyond(ability)
    return _in_tenant(user, ability, tenant)


def _beyond(ability: str) -> Explanation:
    if ability in OWN:
        return Explanation(True, None, ("Everybody has this for their own account.",))
    if ability == "tenant.create" and settings.SELF_SERVICE_SIGNUP:
        return Explanation(True, None, ("The platform lets every user create tenants (SELF_SERVICE_SIGNUP).",))
    return Explanation(False, None, ("It is not a super-admin.", "Only super-admins have this."))


def _in_tenant(user: User, ability: str, tenant: Tenant) -> Explanation:
    role = Member.objects.filter(tenant=tenant, user=user).values_list("role", flat=True).first()
    if role is None:
        return Explanation(False, None, ("The account is active.", f"It is not a member of {tenant.slug}."))
    allowed = can(user.as_actor(), ability, tenant)
    reasons = ["The account is active.", f"Its role in {tenant.slug} is {role}."]
    if not abilities_of(role):
        reasons.append("There is no such role (any more).")
    elif ability in SUPER_ADMIN_ONLY:
        reasons.append("Only super-admins have this, whatever the role.")
    else:
        having = ", ".join(name for name in ROLES if ability in ROLES[name])
        word = "has" if allowed else "does not have"
        reasons.append(f"This role {word} the ability; of the built-in roles {having} have it.")
    return Explanation(allowed, role, tuple(reasons))
