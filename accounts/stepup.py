"""Step-up: before what can't be undone, whoever enrolled a second factor shows it again.

``require(request)`` in a view or route, before the service is called:

- users who enrolled no second factor pass;
- a browser's session and an access token pass when the second factor was shown within the last ``FRESH``. Otherwise:
  Forbidden ``step_up_required``; a program then sends a code to ``POST /api/auth/step-up`` and repeats the request, a
  page sends people to ``/login/again?next=…``;
- an API key can't show anything: making it took a step-up, and it passes where its scopes do.

Before: deleting and transferring a tenant, exec of any command, rotating secrets, raising somebody's role, adding or
inviting somebody who could do one of the first four, making an API key, changing a super-admin.
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
GRANT = "step-up"


def require(request: HttpRequest) -> None:
    """Forbidden ``step_up_required`` unless the step-up is fresh, or not asked of this caller (see above)."""
    if not is_fresh(request):
        raise Forbidden("Show your second factor again first.", type="step_up_required")
    note(GRANT, "fresh")


def is_asked_to_give(role: str) -> bool:
    """Whether giving ``role`` to somebody new wants a step-up: else another account would do what this one may not."""
    return bool(abilities_of(role) & GUARDED)


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
