"""Who may do what outside tenants: to one's own account, and to the platform."""

from __future__ import annotations

from typing import NoReturn

from django.db import transaction

from accounts.grants import CHECKS, note
from accounts.permissions import BEYOND_TENANTS
from audit.services import record
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden, RequestError


def require_reach(actor: Actor, ability: str) -> None:
    """Forbidden ``scope_too_narrow`` when the credential in use does not extend to ``ability``; audited."""
    _check_name(ability)
    if not actor.reaches(ability):
        message = "The scopes of this API key do not allow this."
        deny(Forbidden(message, type="scope_too_narrow", ability=ability), actor=actor, ability=ability)
    note("reach", ability)


def require_super_admin(actor: Actor, ability: str = "platform.admin") -> None:
    """Forbidden for everybody but super-admins, whose credential must reach so far; audited.

    Must be called before the transaction of the act, or the row about the refusal would go with it.
    """
    _check_name(ability)
    if not actor.unrestricted:
        deny(Forbidden("Only super-admins may do this.", ability=ability), actor=actor, ability=ability)
    note("super-admin", ability)
    require_reach(actor, ability)


def deny(error: RequestError, *, actor: Actor, ability: str) -> NoReturn:
    """Record the refused attempt and raise ``error``."""
    with transaction.atomic():
        record("access.denied", actor=actor, detail={"ability": ability}, outcome="denied")
    raise error


def _check_name(ability: str) -> None:
    """A typing error must not read as "no"."""
    if ability not in BEYOND_TENANTS:
        raise KeyError(f"No ability called {ability!r}.")


CHECKS["reach"] = lambda actor, ability, _where: require_reach(actor, ability)
CHECKS["super-admin"] = lambda actor, ability, _where: require_super_admin(actor, ability)
