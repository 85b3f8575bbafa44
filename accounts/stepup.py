"""Step-up: before what can't be undone, whoever enrolled a second factor shows it again.

It is asked for an effect, by whatever verb that comes about: ``EFFECTS`` has them all. ``require(request, effect)`` in
a view or route, before the service is called:

- users who enrolled no second factor pass;
- a browser's session and an access token pass when the second factor was shown within the last ``FRESH``. Otherwise:
  Forbidden ``step_up_required``; a program then sends a code to ``POST /api/auth/step-up`` and repeats the request, a
  page sends people to ``/login/again?next=…``;
- an API key can't show anything: making it took a step-up, and it passes where its scopes do.
"""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpRequest

from accounts.auth import Caller
from accounts.grants import note
from accounts.models import Login, User
from accounts.permissions import GUARDED, abilities_of
from zcplatform.lib import clock
from zcplatform.lib.errors import Forbidden

FRESH = timedelta(minutes=10)
EFFECTS: dict[str, str] = {
    "tenant.gone": "a tenant is deleted",
    "tenant.elsewhere": "a tenant has another owner",
    "secrets.new": "secrets are rotated",
    "command.any": "any command runs in the agent's place",
    "role.given": "somebody has more than a viewer or than before",
    "role.taken": "somebody loses what only an owner may",
    "bearer.made": "there is a new API key, access token or pairing code, which asks for no second factor",
    "pairing.reset": "every paired device is out",
    "account.changed": "what an account is, or a role, changes for the platform",
    "factor.changed": "a second factor or its recovery codes change",
}
GRANT = "step-up"


def require(request: HttpRequest, effect: str) -> None:
    """Forbidden ``step_up_required`` unless the step-up is fresh, or not asked of this caller (see above). KeyError for
    what is none of ``EFFECTS``."""
    if not is_fresh(request):
        raise Forbidden("Show your second factor again first.", type="step_up_required", effect=EFFECTS[effect])
    note(GRANT, effect)


def of_role(before: str | None, after: str | None) -> str:
    """The effect of giving somebody ``after`` who had ``before``, None for no member; empty where none is asked for.

    Who is taken in counts as a viewer before, so that removing somebody and inviting them as more is asked for as well.
    """
    had, has = abilities_of(before or "viewer"), abilities_of(after) if after else frozenset()
    if not has <= had:
        return "role.given"
    return "role.taken" if before and (had - has) & GUARDED else ""


def is_fresh(request: HttpRequest) -> bool:
    """Whether ``require`` would pass; for API requests and pages alike."""
    caller: Caller | None = getattr(request, "caller", None)
    if caller is not None:
        return caller.login is None or _is_fresh(caller.user, caller.login)
    user = request.user
    return isinstance(user, User) and _is_fresh(user, getattr(request, "login", None))


def _is_fresh(user: User, login: Login | None) -> bool:
    if user.second_factor_at is None:
        return True
    return login is not None and login.verified_at is not None and clock.now() - login.verified_at < FRESH
