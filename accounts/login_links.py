"""Single-use links by which somebody logs in: 256 random bits, 15 minutes, only a keyed hash is stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from accounts.models import LoginLink, User
from accounts.services import target_of
from audit.services import record
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, Misconfigured, Unauthenticated
from zcplatform.lib.redact import remember

LIFETIME = timedelta(minutes=15)
KEEP_USED = timedelta(days=1)


def make_login_link(user: User, *, actor: Actor) -> str:
    """The token of a new link; it can't be had again. Conflict ``user_inactive`` for an inactive user."""
    if not user.is_active:
        raise Conflict(f"{user.email} is not active.", type="user_inactive")
    token = secrets.token_urlsafe(32)
    remember(token)
    now = clock.now()
    with transaction.atomic():
        LoginLink.objects.filter(expires_at__lt=now - KEEP_USED).delete()
        LoginLink.objects.create(user=user, token_hash=_hash(token), created_at=now, expires_at=now + LIFETIME)
        record("login.link", actor=actor, target=target_of(user))
    return token


def login_url(token: str) -> str:
    """The absolute address of a link, from the setting and never from a request's Host."""
    return f"{settings.PUBLIC_BASE_URL}/login/{token}"


def user_of_link(token: str) -> User | None:
    """Who would log in with ``token`` now; changes nothing."""
    link = LoginLink.objects.filter(token_hash=_hash(token), **_usable(clock.now())).select_related("user").first()
    return link.user if link else None


def consume_login_link(token: str, *, ip: str = "", request_id: str = "") -> User:
    """Use the link up. Unauthenticated ``invalid_login_link`` when it is unknown, used, too old or of an inactive user.

    Of any number of callers at once one wins: the UPDATE finds the row unused for one of them only.
    """
    now = clock.now()
    with transaction.atomic():
        won = LoginLink.objects.filter(token_hash=_hash(token), **_usable(now)).update(used_at=now)
        if won == 1:
            user = User.objects.get(login_links__token_hash=_hash(token))
            record("login.success", actor=user.as_actor(ip=ip, request_id=request_id), target=target_of(user))
            return user
        stranger = Actor(label="anonymous", ip=ip, request_id=request_id)
        record("login.refused", actor=stranger, outcome="denied", detail={"by": "link"})
    raise Unauthenticated("This login link has been used or has run out.", type="invalid_login_link")


def _usable(now: datetime) -> dict[str, object]:
    # The user by a subquery, not by a join: with a join Django moves all conditions of an UPDATE into a subquery, and
    # PostgreSQL does not look at that again after waiting for another's lock. All waiting callers would win.
    return {"used_at": None, "expires_at__gt": now, "user__in": User.objects.filter(is_active=True)}


def _hash(token: str) -> str:
    if not settings.PEPPER:
        raise Misconfigured("There is no pepper key yet. Run: manage.py bootstrap", type="keys_missing")
    return hmac.new(settings.PEPPER.encode(), b"login-link:" + token.encode(), hashlib.sha256).hexdigest()
