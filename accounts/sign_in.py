"""From a proven address to an open login of an API client, and its tokens.

A login is a family of refresh tokens, each good for one exchange. A second use means that somebody has a copy, and
which of the two is the thief can't be known: the whole login ends.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction

from accounts import logins, tokens
from accounts.models import Login, RefreshToken, User
from accounts.targets import target_of
from audit.services import record
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Unauthenticated
from zcplatform.lib.redact import SecretStr, made_up

REFRESH_LIFETIME = timedelta(days=7)
LONGEST = timedelta(days=90)
"""After this long a person has to prove their address again, however often the tokens were renewed."""
PREFIX = "zcr_"


@dataclass(frozen=True)
class Tokens:
    """Both are told once."""

    access: SecretStr
    refresh: SecretStr


def pending_token(user: User) -> str:
    """Good for nothing but showing the second factor, within 5 minutes."""
    return tokens.sign(tokens.SECOND_FACTOR, sub=str(user.public_id), stamp=user.stamp)


def user_of_pending(token: str) -> User:
    """Whose second factor is awaited. Unauthenticated ``invalid_token``."""
    claims = tokens.read(token, tokens.SECOND_FACTOR)
    user = User.objects.filter(public_id=claims["sub"], stamp=claims["stamp"], is_active=True).first()
    if user is None:
        raise tokens.invalid()
    return user


def open_api_login(user: User, *, by: str, verified: bool, origin: dict[str, str], audit: dict[str, str]) -> Tokens:
    """Log ``user`` in. ``by`` says how they proved themselves, ``origin`` is the login's, ``audit`` the audit's."""
    with transaction.atomic():
        login = logins.open_login(user, lifetime=REFRESH_LIFETIME, origin=origin, verified=verified)
        issued = _issue(login)
        User.objects.filter(pk=user.pk).update(last_login=clock.now())
        record("login.success", actor=user.as_actor(**audit), target=target_of(user), detail={"by": by})
    return issued


def close_browser_login(user: User, login: Login, *, audit: dict[str, str]) -> None:
    """Log a browser out: its login ends, whatever becomes of its cookie."""
    with transaction.atomic():
        logins.end(Login.objects.filter(pk=login.pk))
        record("login.end", actor=user.as_actor(**audit), target=target_of(user))


def note_refusal(user: User, *, by: str, audit: dict[str, str]) -> None:
    """Record that somebody who is not known to be ``user`` failed to log in as them."""
    stranger = Actor(label="anonymous", ip=audit["ip"], request_id=audit["request_id"])
    with transaction.atomic():
        record("login.refused", actor=stranger, target=target_of(user), outcome="denied", detail={"by": by})


def refresh(value: str, *, audit: dict[str, str]) -> Tokens:
    """New tokens for an unused refresh token. Unauthenticated ``invalid_token``; a used one ends its login."""
    now = clock.now()
    with transaction.atomic():
        found = RefreshToken.objects.filter(token_hash=_hash(value))
        won = found.filter(used_at=None).update(used_at=now) == 1
        token = found.select_related("login").first()
        login = logins.live(token.login.public_id).first() if token else None
        if login is not None and won:
            _extend(login)
            return _issue(login)
        if login is not None:
            logins.end(Login.objects.filter(pk=login.pk))
            detail = {"login": str(login.public_id)}
            actor = login.user.as_actor(**audit)
            record("login.reuse", actor=actor, target=target_of(login.user), outcome="denied", detail=detail)
    raise Unauthenticated("This token is not valid, or no longer.", type="invalid_token")


def _issue(login: Login) -> Tokens:
    user = login.user
    access = tokens.sign(tokens.ACCESS, sub=str(user.public_id), stamp=user.stamp, login=str(login.public_id))
    value = PREFIX + secrets.token_urlsafe(32)
    RefreshToken.objects.create(login=login, token_hash=_hash(value))
    return Tokens(made_up(access), made_up(value))


def _extend(login: Login) -> None:
    now = clock.now()
    until = min(now + REFRESH_LIFETIME, login.created_at + LONGEST)
    Login.objects.filter(pk=login.pk).update(expires_at=until, last_used_at=now)


def _hash(value: Any) -> str:
    return hashlib.sha256(str(value).encode("utf-8", "replace")).hexdigest()
