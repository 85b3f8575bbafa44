"""Signed tokens (JWT, HS256). Each names whom it is for and the one purpose it serves; nothing else is accepted.

The signature says only that we made the token. Whether it still counts is read from the database at every request.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import jwt
from django.conf import settings

from zcplatform.lib import clock
from zcplatform.lib.errors import Misconfigured, Unauthenticated

ALGORITHM = "HS256"
AUDIENCE = "zcplatform-api"
LEEWAY_S = 30
ACCESS, SECOND_FACTOR = "access", "second-factor"
LIFETIMES = {ACCESS: timedelta(hours=1), SECOND_FACTOR: timedelta(minutes=5)}
_REQUIRED = ["iss", "aud", "purpose", "sub", "stamp", "iat", "nbf", "exp", "jti"]


def sign(purpose: str, **claims: Any) -> str:
    """A token for ``purpose``, with ``sub`` (a user's public id), ``stamp`` and, for access, ``login``."""
    now = clock.now()
    times = {"iat": now, "nbf": now, "exp": now + LIFETIMES[purpose]}
    fixed = {"iss": settings.PUBLIC_BASE_URL, "aud": AUDIENCE, "purpose": purpose, "jti": secrets.token_hex(8)}
    return jwt.encode({**claims, **fixed, **times}, _key(), algorithm=ALGORITHM)


def read(token: str, purpose: str) -> dict[str, Any]:
    """The claims of a token made here for ``purpose`` and valid now; Unauthenticated ``invalid_token`` otherwise.

    Which algorithm and key are used is ours to say: the header of the token decides nothing.
    """
    try:
        claims = jwt.decode(
            token,
            _key(),
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=settings.PUBLIC_BASE_URL,
            leeway=LEEWAY_S,
            options={"require": _REQUIRED},
        )
    except jwt.PyJWTError as error:
        raise invalid() from error
    if claims["purpose"] != purpose:
        raise invalid()
    return claims


def invalid() -> Unauthenticated:
    """One answer, whatever is wrong with a token."""
    return Unauthenticated("This token is not valid, or no longer.", type="invalid_token")


def _key() -> str:
    if not settings.JWT_KEY:
        raise Misconfigured("There is no JWT key yet. Run: manage.py bootstrap", type="keys_missing")
    return settings.JWT_KEY
