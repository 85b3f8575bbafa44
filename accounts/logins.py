"""Open logins: a browser's session or an API client's family of tokens. A revoked one is out with its next request."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest

from accounts.models import Login, User
from accounts.targets import target_of
from audit.services import record
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import NotFound

SESSION_NAME = "login"
"""Under this name a browser's session keeps the public id of its login."""
POLL_HEADER = "X-Poll"
"""With it a page says that it asks by itself, and that nobody has touched it since it last asked."""
TOUCH_EVERY = timedelta(minutes=1)
KEEP_ENDED = timedelta(days=7)


def open_login(user: User, *, lifetime: timedelta, origin: dict[str, Any], verified: bool) -> Login:
    """A new login of ``user``; ``verified`` when a second factor was shown for it."""
    now = clock.now()
    return Login.objects.create(
        user=user,
        ip=origin.get("ip") or None,
        user_agent=origin.get("user_agent", "")[:200],
        session_key=origin.get("session_key", ""),
        verified_at=now if verified else None,
        created_at=now,
        last_used_at=now,
        expires_at=now + lifetime,
    )


def note_browser(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    """Django's signal after every login in a browser, with its fresh session key: give the session its row."""
    verified = bool(getattr(request, "second_factor_shown", False))
    if not request.session.session_key:
        request.session.create()
    origin = {**origin_of(request), "session_key": request.session.session_key or ""}
    lifetime = timedelta(seconds=settings.SESSION_COOKIE_AGE)
    login = open_login(user, lifetime=lifetime, origin=origin, verified=verified)
    request.session[SESSION_NAME] = str(login.public_id)


def origin_of(request: HttpRequest) -> dict[str, str]:
    """Where a request comes from, as a login's row keeps it."""
    return {"ip": getattr(request, "client_ip", ""), "user_agent": request.META.get("HTTP_USER_AGENT", "")}


def live(public_id: Any) -> QuerySet[Login]:
    """The login with this id, if it is open now: neither revoked nor idle nor too old, its user active.

    Browsers are logged out when idle; a family of tokens lives by its refresh tokens.
    """
    now = clock.now()
    found = Login.objects.filter(public_id=public_id, revoked_at=None, expires_at__gt=now, user__is_active=True)
    last_noted = now - idle_age() - touch_every()  # of a use that was not noted, as it came too soon after another
    return found.filter(Q(session_key="") | Q(last_used_at__gte=last_noted)).select_related("user")


def idle_age() -> timedelta:
    """How long a browser may be silent before it has to log in again."""
    return timedelta(minutes=settings.SESSION_IDLE_MINUTES)


def touch_every() -> timedelta:
    """How exactly a use is noted: a minute, or less where that is much of the time that a browser may be silent."""
    return min(TOUCH_EVERY, idle_age() / 10)


def touch(login: Login, request: HttpRequest) -> None:
    """Note that the login is used, at most once a minute: a GET should not wait for the database's write lock. What a
    page asks by itself is no use of it: else a session would live for as long as its browser is open."""
    now = clock.now()
    if request.method in ("GET", "HEAD") and POLL_HEADER in request.headers:
        return
    if now - login.last_used_at >= touch_every():
        Login.objects.filter(pk=login.pk).update(last_used_at=now)


def open_ones(user: User) -> QuerySet[Login]:
    """The open logins of a user, newest first."""
    now = clock.now()
    return Login.objects.filter(user=user, revoked_at=None, expires_at__gt=now).order_by("-created_at")


def revoke(login: Login, *, actor: Actor) -> None:
    """End one login. NotFound when it has ended already."""
    with transaction.atomic():
        if end(Login.objects.filter(pk=login.pk)) == 0:
            raise NotFound("This session has ended already.")
        record("login.revoke", actor=actor, target=target_of(login.user), detail={"login": str(login.public_id)})


def revoke_others(user: User, *, actor: Actor, but: Any = None) -> int:
    """End every login of ``user`` except the one with the public id ``but``; how many they were."""
    with transaction.atomic():
        ended = end(Login.objects.filter(user=user).exclude(public_id=but) if but else Login.objects.filter(user=user))
        record("login.revoke", actor=actor, target=target_of(user), detail={"logins": ended})
    return ended


def end(logins: QuerySet[Login]) -> int:
    """Mark as revoked those that are open, with their browsers' sessions; how many. Inside a transaction."""
    found = logins.filter(revoked_at=None)
    keys: Iterable[str] = found.exclude(session_key="").values_list("session_key", flat=True)
    Session.objects.filter(session_key__in=list(keys)).delete()
    return found.update(revoked_at=clock.now())


def void_all(user: User) -> None:
    """Whatever was handed out to ``user`` before is void: sessions, tokens, API keys. Inside a transaction."""
    User.objects.filter(pk=user.pk).update(stamp=F("stamp") + 1)
    user.refresh_from_db(fields=["stamp"])
    end(Login.objects.filter(user=user))


def prune(now: datetime | None = None) -> int:
    """Forget logins that ended a week ago, with their tokens, and browsers' dead sessions; how many logins."""
    now = now or clock.now()
    Session.objects.filter(expire_date__lt=now).delete()
    return Login.objects.filter(expires_at__lt=now - KEEP_ENDED).delete()[0]
